/*
 * Service: everything one executor process holds, and what it does with each message of the control process.
 *
 * Lives in an executor process; main thread only. Opened and closed by main.c.
 */
#ifndef TCD_EXECUTOR_SERVICE_H
#define TCD_EXECUTOR_SERVICE_H

#include "attachment.h"
#include "client.h"
#include "mailbox.h"

struct tcd_ex_service {
    struct tcd_ex_engine *engine;
    struct tcd_ex_mailbox mailbox;
    struct tcd_ex_clients clients;
    struct tcd_ex_attachment *attachments;
    unsigned leaving;            /* attachments whose worker has been asked to end */
    struct tcd_ex_chores chores; /* besides what workers do with requests: allocations, and what engines add */
    bool quitting;
};

/* The engine becomes the service's on success. */
int tcd_ex_service_open(struct tcd_ex_service *service, struct tcd_ex_engine *engine);
void tcd_ex_service_close(struct tcd_ex_service *service); /* once tcd_ex_service_idle */

/* Handles one message. Entries of `fds` that it takes become -1; the others are the caller's to close. */
void tcd_ex_service_handle(struct tcd_ex_service *service, const struct tcd_ex_message *message, int *fds, unsigned fd_count);
/* What the threads have left to do: frees attachments whose worker has ended, unmaps dropped memory. After every wake-up of the mailbox. */
void tcd_ex_service_sweep(struct tcd_ex_service *service);
/* The control process is gone: ends what runs with ECONN and asks every worker to end; repeat it now and then for those that have not. */
void tcd_ex_service_stop_all(struct tcd_ex_service *service);
/* Repeats the request to end to attachments that are leaving. */
void tcd_ex_service_nudge(struct tcd_ex_service *service);
/* Nothing runs any more. */
bool tcd_ex_service_idle(const struct tcd_ex_service *service);

#endif
