// SPDX-License-Identifier: MIT
// The cache of libraries and pipelines. Entries are added and never changed or removed; one lock, held while the compiler runs, so that
// two threads do not compile the same.
#include "metal/pipelines.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "core/status.h"
#include "metal/sources.h"

namespace bnb::metal {
namespace {

struct Entry {
  Entry *next;
  int32_t device;
  char name[kFunctionName];
  void *object;
};

class Table {
 public:
  void *find(int32_t device, const char *name) const {
    for (const Entry *entry = lists_[place_of(device, name)]; entry; entry = entry->next) {
      if (entry->device == device && std::strcmp(entry->name, name) == 0) return entry->object;
    }
    return nullptr;
  }

  // Without memory for an entry the object is made again next time.
  void add(int32_t device, const char *name, void *object) {
    auto *entry = static_cast<Entry *>(std::malloc(sizeof(Entry)));
    if (!entry) return;
    Entry *&list = lists_[place_of(device, name)];
    entry->next = list;
    entry->device = device;
    std::snprintf(entry->name, sizeof entry->name, "%s", name);
    entry->object = object;
    list = entry;
  }

 private:
  static constexpr uint32_t kLists = 256;
  static uint32_t place_of(int32_t device, const char *name) {
    uint32_t hash = 2166136261u ^ uint32_t(device);  // FNV-1a
    for (; *name; ++name) hash = (hash ^ uint8_t(*name)) * 16777619u;
    return hash % kLists;
  }
  Entry *lists_[kLists];
};

Table pipelines, libraries;
std::mutex mutex;

bnb_status find_library(int32_t device, const char *file, void **library) {
  *library = libraries.find(device, file);
  if (*library) return BNB_OK;
  const Source *source = find_source(file);
  if (!source) return BNB_ERROR_INTERNAL;
  const bnb_status status = new_library(device, *source, library);
  if (status == BNB_OK) libraries.add(device, file, *library);
  return status;
}

}  // namespace

const Source *find_source(const char *file) {
  for (int i = 0; i < kSourceCount; ++i) {
    if (std::strcmp(kSources[i].name, file) == 0) return &kSources[i];
  }
  fail(BNB_ERROR_INTERNAL, "there is no kernel file %s.metal", file);
  return nullptr;
}

const Source *find_source_of_text(const char *text) {
  for (int i = 0; i < kSourceCount; ++i) {
    if (kSources[i].text == text || std::strcmp(kSources[i].text, text) == 0) return &kSources[i];
  }
  fail(BNB_ERROR_INVALID_ARGUMENT, "no kernel file of this library has the text");
  return nullptr;
}

bnb_status find_pipeline(int32_t device, const char *file, const char *function, void **pipeline) {
  const std::lock_guard<std::mutex> lock(mutex);
  char key[kFunctionName];  // two files may have functions of one name
  std::snprintf(key, sizeof key, "%s.%s", file, function);
  *pipeline = pipelines.find(device, key);
  if (*pipeline) return BNB_OK;
  void *library = nullptr;
  bnb_status status = find_library(device, file, &library);
  if (status == BNB_OK) status = new_pipeline(device, library, function, pipeline);
  if (status == BNB_OK) pipelines.add(device, key, *pipeline);
  return status;
}

}  // namespace bnb::metal
