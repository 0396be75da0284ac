/* A library that answers as Metal and the Objective-C runtime do: one device, which knows one selector.
   Signatures as Apple documents them; both addresses need more than 32 bits. */
#include <stdint.h>
#include <string.h>

#define DEVICE ((void *)0x7f0012345670)
#define SELECTOR ((void *)0x7f00fedcba98)

void *MTLCreateSystemDefaultDevice(void) { return DEVICE; }
void *sel_registerName(const char *name) {
    return strcmp(name, "recommendedMaxWorkingSetSize") ? 0 : SELECTOR;
}
uint64_t objc_msgSend(void *self, void *selector) {
    return self == DEVICE && selector == SELECTOR ? 115448725504u : 1;
}
