// SPDX-License-Identifier: MIT
// Our own declarations of the part of Metal that libbnb/metal/objc_device.mm makes use of, to check its syntax and types where there is no
// Mac. What they say was read in Apple's documentation; the values of constants are not checked by anybody here.
#ifndef TESTS_METAL_DECLARATIONS_METAL_H_
#define TESTS_METAL_DECLARATIONS_METAL_H_

#include <Foundation/Foundation.h>

#define BNB_ENUM_OF(name) enum name : NSInteger name; enum name : NSInteger
#define BNB_OPTIONS(name) enum name : NSUInteger name; enum name : NSUInteger

typedef struct {
  NSUInteger width, height, depth;
} MTLSize;
static inline MTLSize MTLSizeMake(NSUInteger width, NSUInteger height, NSUInteger depth) { return {width, height, depth}; }

typedef BNB_ENUM_OF(MTLGPUFamily) { MTLGPUFamilyApple5 = 1005, MTLGPUFamilyApple7 = 1007 };
typedef BNB_OPTIONS(MTLLanguageVersion) {
  MTLLanguageVersion2_4 = (2 << 16) + 4,
  MTLLanguageVersion3_1 = (3 << 16) + 1
};
typedef BNB_OPTIONS(MTLResourceOptions) { MTLResourceStorageModeShared = 0, MTLResourceStorageModePrivate = 2 << 4 };
typedef BNB_OPTIONS(MTLStorageMode) { MTLStorageModeShared = 0, MTLStorageModePrivate = 2 };
typedef BNB_ENUM_OF(MTLMathMode) { MTLMathModeSafe = 0 };
typedef BNB_ENUM_OF(MTLMathFloatingPointFunctions) { MTLMathFloatingPointFunctionsPrecise = 1 };
typedef BNB_OPTIONS(MTLCommandBufferStatus) { MTLCommandBufferStatusError = 5 };

@protocol MTLDevice, MTLCommandBuffer;

@protocol MTLResource <NSObject>
- (id<MTLDevice>)device;
- (MTLStorageMode)storageMode;
@end

@protocol MTLBuffer <MTLResource>
- (NSUInteger)length;
- (void *)contents;
@end

@protocol MTLFunction <NSObject>
@end

@protocol MTLLibrary <NSObject>
- (id<MTLFunction>)newFunctionWithName:(NSString *)name;
@end

@protocol MTLComputePipelineState <NSObject>
- (NSUInteger)maxTotalThreadsPerThreadgroup;
- (NSUInteger)threadExecutionWidth;
@end

@interface MTLCompileOptions : NSObject
- (void)setLanguageVersion:(MTLLanguageVersion)version;
- (void)setFastMathEnabled:(BOOL)enabled;
- (void)setMathMode:(MTLMathMode)mode;
- (void)setMathFloatingPointFunctions:(MTLMathFloatingPointFunctions)functions;
@end

@protocol MTLComputeCommandEncoder <NSObject>
- (void)setComputePipelineState:(id<MTLComputePipelineState>)state;
- (void)setBytes:(const void *)bytes length:(NSUInteger)length atIndex:(NSUInteger)index;
- (void)setBuffer:(id<MTLBuffer>)buffer offset:(NSUInteger)offset atIndex:(NSUInteger)index;
- (void)setThreadgroupMemoryLength:(NSUInteger)length atIndex:(NSUInteger)index;
- (void)dispatchThreadgroups:(MTLSize)groups threadsPerThreadgroup:(MTLSize)threads;
- (void)endEncoding;
@end

typedef void (^MTLCommandBufferHandler)(id<MTLCommandBuffer>);

@protocol MTLCommandBuffer <NSObject>
- (id<MTLComputeCommandEncoder>)computeCommandEncoder;
- (void)addCompletedHandler:(MTLCommandBufferHandler)block;
- (void)commit;
- (void)waitUntilCompleted;
- (MTLCommandBufferStatus)status;
- (NSError *)error;
@end

@protocol MTLCommandQueue <NSObject>
- (id<MTLDevice>)device;
- (id<MTLCommandBuffer>)commandBuffer;
@end

@protocol MTLDevice <NSObject>
- (BOOL)supportsFamily:(MTLGPUFamily)family;
- (NSString *)name;
- (BOOL)hasUnifiedMemory;
- (NSUInteger)maxThreadgroupMemoryLength;
- (NSUInteger)maxBufferLength;
- (id<MTLCommandQueue>)newCommandQueue;
- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length options:(MTLResourceOptions)options;
- (id<MTLBuffer>)newBufferWithBytesNoCopy:(void *)pointer
                                   length:(NSUInteger)length
                                  options:(MTLResourceOptions)options
                              deallocator:(void (^)(void *pointer, NSUInteger length))deallocator;
- (id<MTLLibrary>)newLibraryWithSource:(NSString *)source
                               options:(MTLCompileOptions *)options
                                 error:(NSError *__autoreleasing *)error;
- (id<MTLComputePipelineState>)newComputePipelineStateWithFunction:(id<MTLFunction>)function
                                                             error:(NSError *__autoreleasing *)error;
@end

NSArray<id<MTLDevice>> *MTLCopyAllDevices(void) __attribute__((ns_returns_retained));

#endif  // TESTS_METAL_DECLARATIONS_METAL_H_
