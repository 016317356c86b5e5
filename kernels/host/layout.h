/*
 * The inside of a host workspace. One workspace per rank, mapped by all ranks of the group; *only its own rank writes it* (save for the
 * doorbell), the others read: what would be N - 1 pushes through NVLink is one write and N - 1 reads through a shared cache.
 *
 *   0      header: doorbell, progress
 *   4096   three buffers, used in rotation, each: one flag line, then data
 *
 * Nothing here depends on a type or an operation; all sizes are bytes. Memory starts zeroed and sequences start at 1, so nothing needs
 * initializing. Everything in a workspace may be garbage written by a hostile peer: sizes and positions come from private state only.
 */
#ifndef TCK_HOST_LAYOUT_H
#define TCK_HOST_LAYOUT_H

#include <tcw/types.h>

#include <stdatomic.h>

enum {
    TCK_BUFFERS = 3,
    TCK_HEADER_BYTES = 4096,
    TCK_FLAG_BYTES = 64,
    TCK_INLINE_BYTES = 40,
    TCK_WORKSPACE_UNIT = 8 << 20,
};

/* Written by the owner; `sequence` last, with release. Messages of up to TCK_INLINE_BYTES ride in the same line. */
struct tck_flag {
    _Atomic uint64_t sequence; /* step number + 1 */
    uint32_t plan_id;          /* the tag: what the owner believes it is running */
    uint32_t strategy;
    uint64_t tokens;
    unsigned char payload[TCK_INLINE_BYTES];
};

struct tck_header {
    /* Owner: rank + 1 of the peer it sleeps for, a futex; that peer takes it back to 0 and wakes the owner. */
    _Alignas(TCW_TWO_LINES) _Atomic uint32_t awaits;
    _Alignas(TCW_TWO_LINES) _Atomic uint64_t runs; /* finished */
};

_Static_assert(sizeof(struct tck_flag) == TCK_FLAG_BYTES, "one cache line");
_Static_assert(sizeof(struct tck_header) <= TCK_HEADER_BYTES, "fits");

/* Distance between buffers, and data bytes of one buffer, of a workspace of `bytes`. */
static inline uint64_t tck_layout_pitch(uint64_t bytes)
{
    return (bytes - TCK_HEADER_BYTES) / TCK_BUFFERS & ~(uint64_t)4095;
}
static inline uint64_t tck_layout_capacity(uint64_t bytes)
{
    return tck_layout_pitch(bytes) - TCK_FLAG_BYTES;
}

#endif
