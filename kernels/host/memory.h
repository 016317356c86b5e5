/* Host memory: sealed memfds. The host device's part of tck/memory.h. Owner and threads: as there. */
#ifndef TCK_HOST_MEMORY_H
#define TCK_HOST_MEMORY_H

#include <tck/memory.h>

int tck_host_memory_create(const char *name, uint64_t bytes, struct tck_memory *memory);
int tck_host_memory_import(int fd, uint64_t bytes, struct tck_memory *memory);
void tck_host_memory_unmap(struct tck_memory *memory);

#endif
