/*
 * Collecting complaints. The list itself (struct tcf_issues) is public and belongs to the caller of tcf_config_load.
 * Owner: the caller's thread. Freed with tcf_issues_free.
 */
#ifndef TCF_SRC_ISSUES_H
#define TCF_SRC_ISSUES_H

#include <tcf/config.h>

/* Enough to mend any honest file; a hostile one must not fill the memory. */
enum { TCF_MAX_ISSUES = 1000 };

/* Empties *issues and makes room for the first complaints: whether there was one is never forgotten for want of memory. */
bool tcf_issues_reserve(struct tcf_issues *issues);
__attribute__((format(printf, 4, 5))) void tcf_issue_add(struct tcf_issues *issues, const char *file, const char *pointer,
                                                         const char *format, ...);

#endif
