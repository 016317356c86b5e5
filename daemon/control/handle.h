/*
 * A handle table: 64-bit names for objects that clients and answers of executors refer to. Low 32 bits index, high 32 bits generation,
 * which changes with every reuse of a slot, so a stale handle finds nothing. 0 is never a handle. The objects are the caller's. Control
 * process, loop thread. Freed by tcd_handles_clear.
 */
#ifndef TCD_CONTROL_HANDLE_H
#define TCD_CONTROL_HANDLE_H

#include <stdint.h>

struct tcd_handle_slot {
    void *object; /* NULL: free */
    uint32_t generation;
    uint32_t next_free;
};

struct tcd_handles {
    struct tcd_handle_slot *slots;
    uint32_t capacity;
    uint32_t count; /* in use */
    uint32_t limit;
    uint32_t first_free;
};

void tcd_handles_init(struct tcd_handles *handles, uint32_t limit);
void tcd_handles_clear(struct tcd_handles *handles);

/* 0 when the limit is reached or memory is short. */
uint64_t tcd_handle_add(struct tcd_handles *handles, void *object);
/* NULL for anything that is not a live handle of this table. */
void *tcd_handle_get(const struct tcd_handles *handles, uint64_t handle);
void tcd_handle_remove(struct tcd_handles *handles, uint64_t handle);

/* For walks: the object in slot `index`, NULL if free; index < capacity. */
static inline void *tcd_handle_at(const struct tcd_handles *handles, uint32_t index)
{
    return handles->slots[index].object;
}

static inline uint32_t tcd_handle_index(uint64_t handle)
{
    return (uint32_t)handle;
}

#endif
