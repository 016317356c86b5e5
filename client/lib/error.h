/*
 * The calling thread's latest failure: what trtcoll_last_error reports.
 *
 * Owner: each thread has its own (thread-local, nothing to free). Every public function that fails writes it once, where the failure is
 * noticed; functions in between only pass the code on.
 */
#ifndef TCC_ERROR_H
#define TCC_ERROR_H

#include "trtcoll.h"

#include <tcw/message.h>

/* Starts a new error: code and text, everything else as if nothing applied. Returns code. */
__attribute__((format(printf, 2, 3))) int tcc_fail(int code, const char *format, ...);

/* The same with a constant text: for answers that are not worth a formatting, such as EAGAIN of a query. */
int tcc_fail_plainly(int code, const char *text);

/* The latest error, to add what is known about it (group, rank, ...). */
struct trtcoll_error *tcc_error(void);

/* From the daemon or from a broken group. `group` may be NULL. Returns the code. */
int tcc_fail_wire(const struct tcw_error *error, const char *group);

/* A negative tcw code from a layer below that says no more than the code: `what` names the action. */
int tcc_fail_code(int code, const char *what);

#endif
