// SPDX-License-Identifier: MIT
// device.h with Apple's Metal framework. Compiled with automatic reference counting; objects cross the interface as void pointers that
// hold a reference.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <mutex>

#include "core/status.h"
#include "metal/device.h"

namespace bnb::metal {
namespace {

constexpr int kMostDevices = 8;

struct Device {
  id<MTLDevice> device;
  id<MTLCommandQueue> queue;  // the default one
  Traits traits;
};

struct Devices {
  Device all[kMostDevices];
  int count = 0;
};

// Of the versions that kernels tell apart, the newest that this system and the SDK of the build have.
struct Language {
  int number = 240;
  MTLLanguageVersion version = MTLLanguageVersion2_4;
};
Language newest_language() {
#if __MAC_OS_X_VERSION_MAX_ALLOWED >= 140000
  if (@available(macOS 14.0, *)) return {310, MTLLanguageVersion3_1};
#endif
  return {};
}

// Apple's own GPUs: simdgroups of 32 lanes and matrices are what kernels count on. To a virtual machine on an Apple chip its GPU says
// that it is of an older family; it has the instructions of the one it stands for.
bool has_our_instructions(id<MTLDevice> device) {
  return [device supportsFamily:MTLGPUFamilyApple7] ||
         ([device supportsFamily:MTLGPUFamilyApple5] && std::strstr([[device name] UTF8String], "Paravirtual"));
}

Devices find_devices() {
  Devices found;
  NSArray<id<MTLDevice>> *devices = MTLCopyAllDevices();
  for (id<MTLDevice> device in devices) {
    if (found.count == kMostDevices || !has_our_instructions(device)) continue;
    int family = 7;
    while (family < 20 && [device supportsFamily:static_cast<MTLGPUFamily>(MTLGPUFamilyApple7 + family - 6)]) ++family;
    id<MTLCommandQueue> queue = [device newCommandQueue];
    if (!queue) continue;
    // Metal does not say how many cores there are: enough for the largest, and no harm to the smallest.
    constexpr int kGroups = 2048, kMostThreads = 1024;
    found.all[found.count++] = {device, queue,
                                {newest_language().number, family, bool([device hasUnifiedMemory]), kGroups, kMostThreads,
                                 size_t([device maxThreadgroupMemoryLength])}};
  }
  return found;
}

// Never destroyed: threads may outlive main().
const Devices &known() {
  static const Devices *const devices = new Devices(find_devices());
  return *devices;
}
const Device &device_of(int32_t device) { return known().all[device]; }

id<MTLBuffer> buffer_of(void *buffer) { return (__bridge id<MTLBuffer>)buffer; }

const char *words_of(NSError *error) { return error ? [[error localizedDescription] UTF8String] : "no reason given"; }

// What went wrong in work that nobody waited for, until somebody waits.
struct Trouble {
  std::mutex mutex;
  char text[300];
};
Trouble &trouble() {
  static Trouble *const instance = new Trouble{};
  return *instance;
}
void remember(NSError *error) {
  const std::lock_guard<std::mutex> lock(trouble().mutex);
  if (!trouble().text[0]) std::snprintf(trouble().text, sizeof trouble().text, "%s", words_of(error));
}
bnb_status forget() {
  const std::lock_guard<std::mutex> lock(trouble().mutex);
  if (!trouble().text[0]) return BNB_OK;
  const bnb_status status = fail(BNB_ERROR_DEVICE, "the GPU reports: %s", trouble().text);
  trouble().text[0] = 0;
  return status;
}

bnb_status give(id<MTLBuffer> buffer, size_t bytes, void **result) {
  if (!buffer) return fail(BNB_ERROR_OUT_OF_MEMORY, "Metal has no buffer of %zu bytes", bytes);
  *result = (__bridge_retained void *)buffer;
  return BNB_OK;
}

struct State {
  id<MTLCommandBuffer> commands;
  id<MTLComputeCommandEncoder> encoder;
  NSUInteger most_threads;  // of the pipeline that is set
};
State *state_of(void *state) { return static_cast<State *>(state); }

}  // namespace

int32_t device_count() { return known().count; }
const Traits &traits_of(int32_t device) { return device_of(device).traits; }
size_t page_bytes() { return size_t(getpagesize()); }

bnb_status new_buffer(int32_t device, size_t bytes, Storage storage, void **buffer) {
  @autoreleasepool {
    const MTLResourceOptions options = storage == Storage::kShared ? MTLResourceStorageModeShared : MTLResourceStorageModePrivate;
    if (bytes > [device_of(device).device maxBufferLength]) return give(nil, bytes, buffer);
    return give([device_of(device).device newBufferWithLength:bytes options:options], bytes, buffer);
  }
}

bnb_status wrap_host_memory(int32_t device, void *pages, size_t bytes, void **buffer) {
  @autoreleasepool {
    return give([device_of(device).device newBufferWithBytesNoCopy:pages
                                                            length:bytes
                                                           options:MTLResourceStorageModeShared
                                                       deallocator:nil],
                bytes, buffer);
  }
}

void release_buffer(void *buffer) {
  @autoreleasepool {
    (void)(__bridge_transfer id<MTLBuffer>)buffer;
  }
}

bnb_status buffer_bytes(int32_t device, void *buffer, uint64_t *bytes) {
  if ([buffer_of(buffer) device] != device_of(device).device) {
    return fail(BNB_ERROR_INVALID_ARGUMENT, "a buffer of another device");
  }
  *bytes = [buffer_of(buffer) length];
  return BNB_OK;
}

void *host_address(void *buffer) {
  return [buffer_of(buffer) storageMode] == MTLStorageModePrivate ? nullptr : [buffer_of(buffer) contents];
}

bnb_status new_library(int32_t device, const Source &source, void **library) {
  @autoreleasepool {
    MTLCompileOptions *options = [[MTLCompileOptions alloc] init];
    [options setLanguageVersion:newest_language().version];
#if __MAC_OS_X_VERSION_MAX_ALLOWED >= 150000
    if (@available(macOS 15.0, *)) {
      [options setMathMode:MTLMathModeSafe];
      [options setMathFloatingPointFunctions:MTLMathFloatingPointFunctionsPrecise];
    } else
#endif
    {
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
      [options setFastMathEnabled:NO];
#pragma clang diagnostic pop
    }
    NSError *error = nil;
    NSString *text = [NSString stringWithUTF8String:source.text];
    id<MTLLibrary> made = [device_of(device).device newLibraryWithSource:text options:options error:&error];
    if (!made) return fail(BNB_ERROR_INTERNAL, "%s.metal does not compile: %.300s", source.name, words_of(error));
    *library = (__bridge_retained void *)made;
    return BNB_OK;
  }
}

bnb_status new_pipeline(int32_t device, void *library, const char *function, void **pipeline) {
  @autoreleasepool {
    id<MTLFunction> entry = [(__bridge id<MTLLibrary>)library newFunctionWithName:[NSString stringWithUTF8String:function]];
    if (!entry) return fail(BNB_ERROR_INTERNAL, "there is no kernel %s", function);
    NSError *error = nil;
    id<MTLComputePipelineState> made = [device_of(device).device newComputePipelineStateWithFunction:entry error:&error];
    if (!made) return fail(BNB_ERROR_DEVICE, "kernel %s: %.300s", function, words_of(error));
    if ([made threadExecutionWidth] != kSimdWidth) {
      return fail(BNB_ERROR_UNSUPPORTED, "kernel %s has simdgroups of %lu lanes", function, (unsigned long)[made threadExecutionWidth]);
    }
    *pipeline = (__bridge_retained void *)made;
    return BNB_OK;
  }
}

CommandBuffer::CommandBuffer(int32_t device, void *stream) {
  @autoreleasepool {
    id<MTLCommandQueue> queue = stream ? (__bridge id<MTLCommandQueue>)stream : device_of(device).queue;
    if ([queue device] != device_of(device).device) {
      status_ = fail(BNB_ERROR_INVALID_ARGUMENT, "stream is a queue of another device");
      return;
    }
    auto *state = new State{[queue commandBuffer], nil, 0};  // keeps what it refers to until it is done
    state_ = state;
    if (!state->commands) status_ = fail(BNB_ERROR_DEVICE, "Metal has no command buffer");
  }
}

CommandBuffer::~CommandBuffer() {
  @autoreleasepool {
    State *state = state_of(state_);
    if (state && state->encoder) [state->encoder endEncoding];
    delete state;
  }
}

void CommandBuffer::set_pipeline(void *pipeline) {
  @autoreleasepool {
    State *state = state_of(state_);
    if (!state->encoder) state->encoder = [state->commands computeCommandEncoder];  // serial: one launch after the other
    id<MTLComputePipelineState> made = (__bridge id<MTLComputePipelineState>)pipeline;
    [state->encoder setComputePipelineState:made];
    state->most_threads = [made maxTotalThreadsPerThreadgroup];
  }
}
void CommandBuffer::set_bytes(const void *bytes, size_t size, int index) {
  [state_of(state_)->encoder setBytes:bytes length:size atIndex:NSUInteger(index)];
}
void CommandBuffer::set_buffer(void *buffer, uint64_t offset, int index) {
  [state_of(state_)->encoder setBuffer:buffer_of(buffer) offset:NSUInteger(offset) atIndex:NSUInteger(index)];
}
void CommandBuffer::set_threadgroup_memory(size_t bytes, int index) {
  [state_of(state_)->encoder setThreadgroupMemoryLength:bytes atIndex:NSUInteger(index)];
}
void CommandBuffer::dispatch(uint32_t groups, int threads) {
  const State *state = state_of(state_);
  if (NSUInteger(threads) > state->most_threads) {
    status_ = fail(BNB_ERROR_INTERNAL, "a kernel that needs %d threads in a group can have %lu", threads,
                   (unsigned long)state->most_threads);
    return;
  }
  [state->encoder dispatchThreadgroups:MTLSizeMake(groups, 1, 1) threadsPerThreadgroup:MTLSizeMake(NSUInteger(threads), 1, 1)];
}

void CommandBuffer::commit() {
  @autoreleasepool {
    State *state = state_of(state_);
    if (state->encoder) [state->encoder endEncoding];
    state->encoder = nil;
    [state->commands addCompletedHandler:^(id<MTLCommandBuffer> done) {
      if ([done status] == MTLCommandBufferStatusError) remember([done error]);
    }];
    [state->commands commit];
  }
}

bnb_status CommandBuffer::wait() {
  @autoreleasepool {
    [state_of(state_)->commands waitUntilCompleted];
    return forget();
  }
}

}  // namespace bnb::metal
