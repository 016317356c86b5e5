/*
 * The environment of executors of GPUs: the daemon's own, so that CUDA's and NCCL's variables keep working, with a few that are set unless
 * somebody has set them. Control process, loop thread; the caller frees what is made.
 */
#ifndef TCD_CONTROL_ENVIRONMENT_H
#define TCD_CONTROL_ENVIRONMENT_H

#include <stdbool.h>
#include <stddef.h>

/* NULL-terminated "NAME=value"; NULL: out of memory. Without `multicast` NVLink multicast is off, whatever the daemon was started with. */
char **tcd_environment_make(char *const *inherited, bool multicast);
bool tcd_environment_forbids_multicast(char *const *environment);
void tcd_environment_free(char **environment);

/* "NAME=value NAME=value" of CUDA's and NCCL's variables, cut at a whole variable when there is no room for more. */
void tcd_environment_text(char *const *environment, char *text, size_t bytes);

#endif
