/* Between the two halves of the harness. */
#ifndef PROC_HARNESS_PRIVATE_H
#define PROC_HARNESS_PRIVATE_H

#include <stdbool.h>

/* Kills and frees every run; true if one was left. */
bool proc_runs_end(void);
void proc_remove_tree(const char *base);

#endif
