/*
 * Parts of a configuration as JSON, for printing and for saying what changed.
 * The returned text is malloc'ed, the caller's; NULL: out of memory. Threads: any.
 */
#ifndef TCF_SRC_PRINT_H
#define TCF_SRC_PRINT_H

#include <tcf/config.h>

char *tcf_group_print(const struct tcf_config *config, const struct tcf_group *group);
char *tcf_access_print(const struct tcf_access *access);
char *tcf_node_print(const struct tcf_node *node);

#endif
