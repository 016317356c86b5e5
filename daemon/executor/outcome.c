#include "outcome.h"

#include "attachment.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

/* ---- reports ---- */

static void report(struct tcd_ex_attachment *attachment, struct tcd_ex_letter **prepared, uint32_t opcode, int code, uint32_t rank,
                   uint64_t step, const char *text)
{
    struct tcd_ex_letter *letter = *prepared;
    if (!letter)
        return; /* said already */
    *prepared = NULL;
    struct tcd_ex_message *message = &letter->message;
    message->opcode = opcode;
    message->code = code;
    message->attachment = attachment->id;
    message->client = attachment->client->id;
    message->rank = rank;
    message->nranks = attachment->nranks;
    message->step = step;
    snprintf(message->text, sizeof message->text, "%s", text);
    tcd_ex_mailbox_post(attachment->mailbox, letter);
}

void tcd_ex_fail(struct tcd_ex_attachment *attachment, int code, uint32_t rank, uint64_t step, const char *text)
{
    attachment->failed_code = code;
    attachment->failed_rank = rank;
    report(attachment, &attachment->fault, TCD_EX_FAULT, code, rank, step, text);
}

void tcd_ex_violate(struct tcd_ex_attachment *attachment, const char *why)
{
    attachment->violated = true;
    report(attachment, &attachment->violation, TCD_EX_VIOLATION, TCW_EPROTO, attachment->rank, 0, why);
}

/* ---- completions ---- */

/*
 * Like tcw_ring_wake, but the client can make the eventfd blocking and fill its counter. One that is full is readable as it is. Should the
 * client fill it between the look and the write, this thread hangs, but not for longer than the attachment lives: the main thread
 * interrupts it when it wants it to stop.
 */
static void wake_client(struct tcd_ex_attachment *attachment)
{
    const uint64_t one = 1;
    struct pollfd room = {.fd = attachment->cq_event, .events = POLLOUT};
    if (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT))
        return;
    while (write(attachment->cq_event, &one, sizeof one) < 0 && errno == EINTR && !tcd_ex_attachment_stopping(attachment))
        ;
}

void tcd_ex_complete(struct tcd_ex_attachment *attachment, uint64_t user_data, int result, uint32_t culprit, uint64_t start_ns,
                     uint64_t end_ns)
{
    struct tcw_cqe cqe = {
        .user_data = user_data,
        .result = result,
        .culprit = culprit < TCW_MAX_RANKS ? (uint16_t)culprit : 0xffff,
        .start_ns = start_ns,
        .end_ns = end_ns,
    };
    if (attachment->violated)
        return;
    if (tcw_ring_complete(&attachment->ring, &cqe) < 0)
        tcd_ex_violate(attachment, "a completion has no room: more requests in flight than completion entries");
    else if (atomic_load_explicit(&attachment->ring.indices->cq_sleep, memory_order_relaxed))
        wake_client(attachment); /* the fence between entry and flag stands in tcw_ring_complete */
}
