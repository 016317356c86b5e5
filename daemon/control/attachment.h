/*
 * An attachment: one membership served by an executor. It has a ring (memfd and two eventfds) and the executor's member page; made with the
 * first served plan of the membership, ended with the membership. Owned by its member. Control process, loop thread.
 */
#ifndef TCD_CONTROL_ATTACHMENT_H
#define TCD_CONTROL_ATTACHMENT_H

#include "executor.h"
#include "page.h"

#include <tcw/message.h>

struct tcd_daemon;
struct tcd_device;
struct tcd_member;

struct tcd_attachment {
    struct tcd_daemon *daemon;
    struct tcd_member *member;
    struct tcd_device *device;
    uint64_t id; /* handle in daemon->attachments: what executors are told */
    struct tcd_page page;
    uint64_t workspace_generation; /* newest that the executor has */
    uint64_t ring_bytes;
    uint32_t slots;     /* completion entries: what it may have in flight */
    bool lost;          /* its executor's process has ended */
    bool given;         /* the client has the ring */
    int ring, sq_event; /* until given */
    void *map;          /* of the ring, where streams wait for words in it; NULL: none */
    uint32_t sq_entries;
    int cq_event; /* kept: breaking the group must wake a client that sleeps on it. Never written to: see waker.h */
};

/* Makes everything and asks the executor to attach; `done` gets its answer. 0 or a code with *error. */
int tcd_attachment_create(struct tcd_member *member, tcd_executor_done done, void *arg, struct tcw_error *error);
/* The client must not touch the ring any more or is gone. */
void tcd_attachment_destroy(struct tcd_attachment *attachment);

/* The three descriptors for the client, in the order of PLAN_READY; the attachment's to close. */
void tcd_attachment_fds(const struct tcd_attachment *attachment, int fds[3]);
/* The client has them. */
void tcd_attachment_given(struct tcd_attachment *attachment);

/* Requests in the ring, now and later, complete with the code. */
void tcd_attachment_abort(struct tcd_attachment *attachment, const struct tcw_abort_info *info);

/* An executor's process ended: what it served is over, and no stream of a client waits for it any longer. */
void tcd_attachments_lost(struct tcd_device *device, pid_t pid, int status);
/* FAULT or VIOLATION of an executor. */
void tcd_attachment_report(struct tcd_daemon *daemon, const struct tcd_ex_message *message);

#endif
