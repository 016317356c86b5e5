#include "handle.h"

#include <stdlib.h>

#define NONE_FREE UINT32_MAX
enum { FIRST_CAPACITY = 16 };

void tcd_handles_init(struct tcd_handles *handles, uint32_t limit)
{
    *handles = (struct tcd_handles){.limit = limit, .first_free = NONE_FREE};
}

void tcd_handles_clear(struct tcd_handles *handles)
{
    free(handles->slots);
    tcd_handles_init(handles, handles->limit);
}

static int grow(struct tcd_handles *handles)
{
    uint32_t capacity = handles->capacity ? handles->capacity * 2 : FIRST_CAPACITY;
    struct tcd_handle_slot *slots;
    uint32_t i;

    if (capacity > handles->limit)
        capacity = handles->limit;
    if (capacity <= handles->capacity)
        return 0;
    slots = realloc(handles->slots, capacity * sizeof(*slots));
    if (!slots)
        return 0;
    /* Chained so that low indices are used first: they are rows of the stats tables. */
    for (i = capacity; i-- > handles->capacity;) {
        slots[i] = (struct tcd_handle_slot){.next_free = handles->first_free};
        handles->first_free = i;
    }
    handles->slots = slots;
    handles->capacity = capacity;
    return 1;
}

uint64_t tcd_handle_add(struct tcd_handles *handles, void *object)
{
    struct tcd_handle_slot *slot;
    uint32_t index;

    if (handles->first_free == NONE_FREE && !grow(handles))
        return 0;
    index = handles->first_free;
    slot = &handles->slots[index];
    handles->first_free = slot->next_free;
    if (!++slot->generation)
        slot->generation = 1;
    slot->object = object;
    handles->count++;
    return (uint64_t)slot->generation << 32 | index;
}

static struct tcd_handle_slot *find(const struct tcd_handles *handles, uint64_t handle)
{
    uint32_t index = tcd_handle_index(handle);
    struct tcd_handle_slot *slot;

    if (index >= handles->capacity)
        return NULL;
    slot = &handles->slots[index];
    return slot->object && slot->generation == handle >> 32 ? slot : NULL;
}

void *tcd_handle_get(const struct tcd_handles *handles, uint64_t handle)
{
    struct tcd_handle_slot *slot = find(handles, handle);

    return slot ? slot->object : NULL;
}

void tcd_handle_remove(struct tcd_handles *handles, uint64_t handle)
{
    struct tcd_handle_slot *slot = find(handles, handle);

    if (!slot)
        return;
    slot->object = NULL;
    slot->next_free = handles->first_free;
    handles->first_free = tcd_handle_index(handle);
    handles->count--;
}
