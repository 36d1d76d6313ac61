// SPDX-License-Identifier: MIT
// The functions of tests/metal/msl/msl/host.h, on the emulated machine of tests/simt.
#include "metal/kernels.h"

#include <cstring>

#include "formats/float16.h"
#include "simt/grid.h"

namespace metal_host {
namespace {

using uint = unsigned;

// Filled by constructors of other files, so that it is made at first use.
struct Entry {
  const char *file;
  int language;
  const char *name;
  Body body;
};
struct List {
  static constexpr int kMost = 4096;
  Entry entries[kMost];
  int count = 0;
};
List &list() {
  static List *const made = new List;
  return *made;
}

uint32_t flushed(uint32_t bits) { return flushes_subnormals && (bits & 0x7F800000u) == 0 ? bits & 0x80000000u : bits; }
float flush(float x) { return bnb::formats::float_from_bits(flushed(bnb::formats::bits_from_float(x))); }
uint16_t flush_half(uint16_t bits) { return flushes_subnormals && (bits & 0x7C00u) == 0 ? bits & 0x8000u : bits; }

}  // namespace

const Bindings *bindings = nullptr;
bool flushes_subnormals = false;

struct Registered {
  Registered(const char *file, int language, const char *name, void (*body)());
};
Registered::Registered(const char *file, int language, const char *name, void (*body)()) {
  List &all = list();
  if (all.count == List::kMost) __builtin_trap();
  all.entries[all.count++] = {file, language, name, body};
}

Body find_kernel(const char *file, const char *function, int language) {
  const Entry *best = nullptr;
  const List &all = list();
  for (int i = 0; i < all.count; ++i) {
    const Entry &entry = all.entries[i];
    if (entry.language > language || (best && best->language > entry.language)) continue;
    if (std::strcmp(entry.file, file) == 0 && std::strcmp(entry.name, function) == 0) best = &entry;
  }
  return best ? best->body : nullptr;
}

void *buffer(int index) {
  void *address = bindings->buffers[index];
  if (!address) simt::stop("the kernel has a buffer(%d), but none was set", index);
  return address;
}
void *threadgroup_memory(int) { return simt::shared_memory(); }

uint attribute_thread_position_in_threadgroup() { return simt::current->index; }
uint attribute_thread_index_in_threadgroup() { return simt::current->index; }
uint attribute_thread_position_in_grid() { return simt::position.block * simt::position.threads + simt::current->index; }
uint attribute_threads_per_threadgroup() { return simt::position.threads; }
uint attribute_threadgroup_position_in_grid() { return simt::position.block; }
uint attribute_threadgroups_per_grid() { return simt::position.blocks; }
uint attribute_thread_index_in_simdgroup() { return simt::current->lane; }
uint attribute_simdgroup_index_in_threadgroup() { return simt::current->warp; }
uint attribute_simdgroups_per_threadgroup() { return (simt::position.threads + simt::kWave - 1) / simt::kWave; }
uint attribute_threads_per_simdgroup() { return simt::kWave; }

void wait_for_threadgroup(Site site) { simt::block_barrier({site.file, site.line}); }
void meet(Site site, void *record, void (*resolve)(void **records, int lanes)) {
  simt::meet({site.file, site.line}, record, resolve);
}
uint lane() { return simt::current->lane; }
[[noreturn]] void stop(const char *text) { simt::stop("%s", text); }

unsigned short half_from(float x) { return flush_half(bnb::formats::fp16_from_float(x)); }
float float_from_half(unsigned short bits) { return bnb::formats::float_from_fp16(flush_half(bits)); }
unsigned short bfloat_from(float x) { return bnb::formats::bf16_from_float(flush(x)); }
float float_from_bfloat(unsigned short bits) { return flush(bnb::formats::float_from_bf16(bits)); }

}  // namespace metal_host
