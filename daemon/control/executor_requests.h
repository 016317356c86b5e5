/*
 * Requests to an executor, and the lists in which they wait: each is owed one callback, which ends it.
 *
 * Control process, loop thread; made by control/executor.c. A request belongs to the list it is in, and one that is in none to whoever took
 * it out; finishing or failing frees it, and so does dropping, without a callback. Lists stand inside the executor.
 */
#ifndef TCD_CONTROL_EXECUTOR_REQUESTS_H
#define TCD_CONTROL_EXECUTOR_REQUESTS_H

#include "executor.h"

struct tcd_request {
    struct tcd_request *next;
    struct tcd_ex_message message;
    tcd_executor_done done; /* NULL: nobody wants the answer */
    void *arg;
    int code; /* the answer's, of one that is answered without a process */
    unsigned fd_count;
    int fds[]; /* own duplicates */
};

struct tcd_requests {
    struct tcd_request *first, **last;
};

/* With copies of message and descriptors. 0, TCW_ENOMEM or TCW_EIO. */
int tcd_request_create(const struct tcd_ex_message *message, const int *fds, unsigned fd_count, tcd_executor_done done, void *arg,
                       struct tcd_request **request);
void tcd_request_drop(struct tcd_request *request);
/* They were sent, or will not be. */
void tcd_request_close_fds(struct tcd_request *request);
/* `fd` goes to the callback. */
void tcd_request_finish(struct tcd_request *request, const struct tcd_ex_message *answer, int fd);
/* With an answer made here. */
void tcd_request_fail(struct tcd_request *request, int code, const char *text);

void tcd_requests_reset(struct tcd_requests *list);
void tcd_requests_append(struct tcd_requests *list, struct tcd_request *request);
/* The first one; NULL: there is none. */
struct tcd_request *tcd_requests_shift(struct tcd_requests *list);
/* The one with this cookie; NULL: there is none. */
struct tcd_request *tcd_requests_take(struct tcd_requests *list, uint64_t cookie);
/* Moves everything of `from` behind what `to` has. */
void tcd_requests_move(struct tcd_requests *to, struct tcd_requests *from);
/* Fails all that are in the list now: callbacks may make new requests. */
void tcd_requests_fail(struct tcd_requests *list, int code, const char *text);

#endif
