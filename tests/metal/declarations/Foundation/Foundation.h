// SPDX-License-Identifier: MIT
// Our own declarations of the part of Foundation that libbnb/metal/objc_device.mm makes use of, to check its syntax and types where there
// is no Mac.
#ifndef TESTS_METAL_DECLARATIONS_FOUNDATION_H_
#define TESTS_METAL_DECLARATIONS_FOUNDATION_H_

#include <stddef.h>

#define __MAC_OS_X_VERSION_MAX_ALLOWED 150000

typedef unsigned long NSUInteger;
typedef long NSInteger;
typedef signed char BOOL;
#define YES ((BOOL)1)
#define NO ((BOOL)0)
#define nil nullptr

@protocol NSObject
@end

__attribute__((objc_root_class))
@interface NSObject <NSObject>
+ (instancetype)alloc;
- (instancetype)init;
@end

@interface NSString : NSObject
+ (instancetype)stringWithUTF8String:(const char *)text;
- (const char *)UTF8String;
@end

@interface NSError : NSObject
- (NSString *)localizedDescription;
@end

typedef struct {
  unsigned long state;
  id __unsafe_unretained *itemsPtr;
  unsigned long *mutationsPtr;
  unsigned long extra[5];
} NSFastEnumerationState;

@interface NSArray<__covariant ObjectType> : NSObject
- (NSUInteger)countByEnumeratingWithState:(NSFastEnumerationState *)state
                                  objects:(ObjectType __unsafe_unretained [])buffer
                                    count:(NSUInteger)count;
@end

#endif  // TESTS_METAL_DECLARATIONS_FOUNDATION_H_
