#include "handle_map.h"

#include <tcw/types.h>

#include <stdlib.h>

enum { MIN_CAPACITY = 16 };

static uint32_t home(const struct tcd_ex_handle_map *map, uint64_t handle)
{
    return (uint32_t)(handle * 0x9e3779b97f4a7c15ull >> 32) & (map->capacity - 1);
}

/* The slot that holds `handle`, or the free one where it belongs. The table is never full. */
static uint32_t probe(const struct tcd_ex_handle_map *map, uint64_t handle)
{
    uint32_t at = home(map, handle);
    while (map->slots[at].handle && map->slots[at].handle != handle)
        at = (at + 1) & (map->capacity - 1);
    return at;
}

static int grow(struct tcd_ex_handle_map *map)
{
    struct tcd_ex_handle_map larger = {.capacity = map->capacity ? map->capacity * 2 : MIN_CAPACITY, .count = map->count};
    larger.slots = calloc(larger.capacity, sizeof *larger.slots);
    if (!larger.slots)
        return TCW_ENOMEM;
    for (uint32_t i = 0; i < map->capacity; ++i)
        if (map->slots[i].handle)
            larger.slots[probe(&larger, map->slots[i].handle)] = map->slots[i];
    free(map->slots);
    *map = larger;
    return 0;
}

int tcd_ex_handle_map_add(struct tcd_ex_handle_map *map, uint64_t handle, void *object)
{
    if (!handle)
        return TCW_EINVAL;
    if (tcd_ex_handle_map_find(map, handle))
        return TCW_EEXIST;
    if (2 * (map->count + 1) > map->capacity && grow(map) < 0)
        return TCW_ENOMEM;
    map->slots[probe(map, handle)] = (struct tcd_ex_handle_slot){handle, object};
    ++map->count;
    return 0;
}

void *tcd_ex_handle_map_find(const struct tcd_ex_handle_map *map, uint64_t handle)
{
    if (!map->capacity || !handle)
        return NULL;
    return map->slots[probe(map, handle)].object;
}

void *tcd_ex_handle_map_remove(struct tcd_ex_handle_map *map, uint64_t handle)
{
    if (!tcd_ex_handle_map_find(map, handle))
        return NULL;
    uint32_t mask = map->capacity - 1, hole = probe(map, handle);
    void *object = map->slots[hole].object;
    /* Entries behind the hole that could no longer be found across it move into it. */
    for (uint32_t at = (hole + 1) & mask; map->slots[at].handle; at = (at + 1) & mask) {
        uint32_t distance = (at - home(map, map->slots[at].handle)) & mask;
        if (distance < ((at - hole) & mask))
            continue;
        map->slots[hole] = map->slots[at];
        hole = at;
    }
    map->slots[hole] = (struct tcd_ex_handle_slot){0, NULL};
    --map->count;
    return object;
}

void *tcd_ex_handle_map_pop(struct tcd_ex_handle_map *map)
{
    for (uint32_t i = 0; i < map->capacity; ++i)
        if (map->slots[i].handle)
            return tcd_ex_handle_map_remove(map, map->slots[i].handle);
    return NULL;
}

void tcd_ex_handle_map_free(struct tcd_ex_handle_map *map)
{
    free(map->slots);
    *map = (struct tcd_ex_handle_map){0};
}
