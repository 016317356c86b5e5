/*
 * From handles (index and generation in one 64-bit number, 0 is none) to objects: a small open-addressing table. A handle whose generation
 * is old is simply another number, so a match proves that it is current.
 *
 * Lives in an executor process; part of its owner, which locks it. Lookups neither allocate nor write.
 */
#ifndef TCD_EXECUTOR_HANDLE_MAP_H
#define TCD_EXECUTOR_HANDLE_MAP_H

#include <stdint.h>

struct tcd_ex_handle_slot {
    uint64_t handle; /* 0: free */
    void *object;
};

struct tcd_ex_handle_map {
    struct tcd_ex_handle_slot *slots;
    uint32_t capacity; /* 0 or a power of two */
    uint32_t count;
};

/* 0, TCW_EEXIST, TCW_ENOMEM, TCW_EINVAL for handle 0. */
int tcd_ex_handle_map_add(struct tcd_ex_handle_map *map, uint64_t handle, void *object);
void *tcd_ex_handle_map_find(const struct tcd_ex_handle_map *map, uint64_t handle); /* NULL: none */
void *tcd_ex_handle_map_remove(struct tcd_ex_handle_map *map, uint64_t handle);     /* what it was, NULL: none */
/* Any one entry, for emptying the map: NULL once it is empty. */
void *tcd_ex_handle_map_pop(struct tcd_ex_handle_map *map);
void tcd_ex_handle_map_free(struct tcd_ex_handle_map *map); /* the table, not the objects */

#endif
