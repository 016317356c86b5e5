#include "rpc.h"

#include "clock.h"
#include "error.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* One outstanding request; lives on its caller's stack and is in the list exactly while that caller waits. */
struct tcc_call {
    struct tcc_call *next;
    struct tcw_packet *reply;
    uint32_t sequence;
    bool answered;
};

enum {
    NAP_MS = 1000,   /* longest sleep without looking at the clock and at the list again */
    NOTIFY_MS = 100, /* how long a notification may wait for room in the socket */
    GLANCE_MS = 5,   /* how often those who ask all the time look at the socket */
};

int tcc_rpc_create(struct tcc_rpc *rpc, int socket, void (*announced)(void *arg, const struct tcw_packet *packet), void *arg)
{
    memset(rpc, 0, sizeof(*rpc));
    rpc->socket = socket;
    rpc->announced = announced;
    rpc->arg = arg;
    if (pthread_mutex_init(&rpc->lock, NULL))
        return TRTCOLL_ENOMEM;
    if (tcc_cond_create(&rpc->changed)) {
        pthread_mutex_destroy(&rpc->lock);
        return TRTCOLL_ENOMEM;
    }
    return 0;
}

void tcc_rpc_destroy(struct tcc_rpc *rpc, bool forked)
{
    close(rpc->socket);
    if (forked)
        return;
    pthread_cond_destroy(&rpc->changed);
    pthread_mutex_destroy(&rpc->lock);
}

/* With the lock. The first reason stays. */
static void rpc_end(struct tcc_rpc *rpc, const char *reason)
{
    if (atomic_load_explicit(&rpc->gone, memory_order_relaxed))
        return;
    if (!rpc->farewell[0])
        snprintf(rpc->farewell, sizeof(rpc->farewell), "%s", reason);
    atomic_store_explicit(&rpc->gone, true, memory_order_release);
    shutdown(rpc->socket, SHUT_RDWR);
    pthread_cond_broadcast(&rpc->changed);
}

int tcc_rpc_fail_gone(struct tcc_rpc *rpc)
{
    return tcc_fail(TRTCOLL_ECONN, "%s; close the context and open a new one", rpc->farewell);
}

/* An answer whose caller has given up: what it grants is given back, so that nothing stays reserved for nobody. */
static void release_orphan(struct tcc_rpc *rpc, const struct tcw_packet *packet)
{
    switch (packet->header.opcode) {
    case TCW_MSG_GROUP_READY: {
        struct tcw_group_leave leave = {.group_id = packet->payload.GROUP_READY.group_id};
        tcc_rpc_notify(rpc, TCW_MSG_GROUP_LEAVE, &leave);
        break;
    }
    case TCW_MSG_PLAN_READY: {
        struct tcw_plan_release release = {.plan = packet->payload.PLAN_READY.plan};
        tcc_rpc_notify(rpc, TCW_MSG_PLAN_RELEASE, &release);
        break;
    }
    case TCW_MSG_MEM_READY: {
        struct tcw_mem_free release = {.handle = packet->payload.MEM_READY.handle};
        tcc_rpc_notify(rpc, TCW_MSG_MEM_FREE, &release);
        break;
    }
    default:
        break;
    }
}

static bool hand_over(struct tcc_rpc *rpc, const struct tcw_packet *packet)
{
    struct tcc_call *call;

    pthread_mutex_lock(&rpc->lock);
    for (call = rpc->calls; call; call = call->next)
        if (call->sequence == packet->header.sequence && !call->answered)
            break;
    if (call) {
        *call->reply = *packet;
        call->answered = true;
        pthread_cond_broadcast(&rpc->changed);
    }
    pthread_mutex_unlock(&rpc->lock);
    return call != NULL;
}

static void note_farewell(struct tcc_rpc *rpc, const struct tcw_error *error)
{
    pthread_mutex_lock(&rpc->lock);
    if (!rpc->farewell[0])
        snprintf(rpc->farewell, sizeof(rpc->farewell), "trtcolld closed the connection: %.200s",
                 error->text[0] ? error->text : trtcoll_error_text(error->code));
    pthread_mutex_unlock(&rpc->lock);
}

static void dispatch(struct tcc_rpc *rpc, struct tcw_packet *packet)
{
    bool taken = false;

    if (packet->header.opcode == TCW_MSG_GOODBYE)
        note_farewell(rpc, &packet->payload.GOODBYE);
    if (packet->header.sequence)
        taken = hand_over(rpc, packet);
    else
        rpc->announced(rpc->arg, packet);
    if (!taken) {
        if (packet->header.sequence)
            release_orphan(rpc, packet);
        tcw_packet_close_fds(packet);
    }
}

/* An answer whose descriptors this process has no room for is none: what it grants is given back, and its caller learns why. */
static void dispatch_without_fds(struct tcc_rpc *rpc, struct tcw_packet *packet)
{
    struct tcw_error error = {.code = TCW_EIO, .rank = TCW_NOBODY};

    release_orphan(rpc, packet);
    snprintf(error.text, sizeof(error.text), "this process is out of file descriptors: those of %s could not be received",
             tcw_message_name(packet->header.opcode));
    packet->header.opcode = TCW_MSG_ERROR; /* which never comes with any: see tcc_rpc_starved */
    packet->payload.ERROR = error;
    dispatch(rpc, packet);
}

/* In the reader's place, without the lock: reads until nothing is there. */
static void drain(struct tcc_rpc *rpc)
{
    struct tcw_packet packet;
    const char *why = "";
    char text[TCW_TEXT_BYTES];
    int code;

    while ((code = tcw_channel_receive(rpc->socket, &packet, &why)) == 1 || code == TCW_EQUOTA) {
        if (code == 1)
            dispatch(rpc, &packet);
        else
            dispatch_without_fds(rpc, &packet);
    }
    if (!code)
        return;
    if (code == TCW_EPROTO)
        snprintf(text, sizeof(text), "trtcolld sent a malformed message (%s)", why);
    else
        snprintf(text, sizeof(text), "trtcolld has closed the connection or has died");
    pthread_mutex_lock(&rpc->lock);
    rpc_end(rpc, text);
    pthread_mutex_unlock(&rpc->lock);
}

void tcc_rpc_pump(struct tcc_rpc *rpc)
{
    if (tcc_rpc_gone(rpc) || pthread_mutex_trylock(&rpc->lock))
        return;
    if (!rpc->reading) {
        rpc->reading = true;
        pthread_mutex_unlock(&rpc->lock);
        drain(rpc);
        pthread_mutex_lock(&rpc->lock);
        rpc->reading = false;
        pthread_cond_broadcast(&rpc->changed);
    }
    pthread_mutex_unlock(&rpc->lock);
}

void tcc_rpc_glance(struct tcc_rpc *rpc, uint64_t now_ns)
{
    uint64_t last = atomic_load_explicit(&rpc->glanced_ns, memory_order_relaxed);

    if (now_ns - last >= GLANCE_MS * TCC_MS &&
        atomic_compare_exchange_strong_explicit(&rpc->glanced_ns, &last, now_ns, memory_order_relaxed, memory_order_relaxed))
        tcc_rpc_pump(rpc);
}

static void wait_writable(struct tcc_rpc *rpc, int ms)
{
    struct pollfd writable = {.fd = rpc->socket, .events = POLLOUT};

    poll(&writable, 1, ms);
}

/* Sends with the lock, releasing it while the socket is full. */
static int send_locked(struct tcc_rpc *rpc, unsigned opcode, uint32_t sequence, const void *payload, const int *fds, unsigned fd_count,
                       uint64_t deadline_ns)
{
    int code;

    for (;;) {
        if (tcc_rpc_gone(rpc))
            return TCW_ECONN;
        code = tcw_channel_send(rpc->socket, opcode, sequence, rpc->generation, payload, fds, fd_count);
        if (code != TCW_EAGAIN)
            return code;
        if (!tcc_deadline_left_ms(deadline_ns, 1))
            return TCW_ETIMEOUT;
        pthread_mutex_unlock(&rpc->lock);
        wait_writable(rpc, tcc_deadline_left_ms(deadline_ns, 10));
        pthread_mutex_lock(&rpc->lock);
    }
}

static uint32_t next_sequence(struct tcc_rpc *rpc)
{
    if (!++rpc->sequence)
        rpc->sequence = 1; /* 0 marks announcements */
    return rpc->sequence;
}

void tcc_rpc_notify(struct tcc_rpc *rpc, unsigned opcode, const void *payload)
{
    pthread_mutex_lock(&rpc->lock);
    send_locked(rpc, opcode, next_sequence(rpc), payload, NULL, 0, tcc_deadline_after(tcw_now_ns(), NOTIFY_MS));
    pthread_mutex_unlock(&rpc->lock);
}

/* With the lock: reads for everybody, or waits for the one who does. */
static void await(struct tcc_rpc *rpc, uint64_t deadline_ns)
{
    struct pollfd readable = {.fd = rpc->socket, .events = POLLIN};
    uint64_t nap_ns = tcc_deadline_after(tcw_now_ns(), NAP_MS);

    if (rpc->reading) {
        tcc_cond_wait_until(&rpc->changed, &rpc->lock, deadline_ns < nap_ns ? deadline_ns : nap_ns);
        return;
    }
    rpc->reading = true;
    pthread_mutex_unlock(&rpc->lock);
    if (poll(&readable, 1, tcc_deadline_left_ms(deadline_ns, NAP_MS)) > 0)
        drain(rpc);
    pthread_mutex_lock(&rpc->lock);
    rpc->reading = false;
    pthread_cond_broadcast(&rpc->changed);
}

static void call_remove(struct tcc_rpc *rpc, struct tcc_call *call)
{
    struct tcc_call **link = &rpc->calls;

    while (*link != call)
        link = &(*link)->next;
    *link = call->next;
}

/* Sends and waits. 0: answered; else TCW_ECONN, TCW_ETIMEOUT or TCW_EIO. */
static int exchange(struct tcc_rpc *rpc, unsigned opcode, const void *payload, const int *fds, unsigned fd_count, uint64_t deadline_ns,
                    struct tcw_packet *reply)
{
    struct tcc_call call = {.reply = reply};
    int code;

    pthread_mutex_lock(&rpc->lock);
    call.sequence = next_sequence(rpc);
    call.next = rpc->calls;
    rpc->calls = &call;
    code = send_locked(rpc, opcode, call.sequence, payload, fds, fd_count, deadline_ns);
    if (code == TCW_ECONN && !tcc_rpc_gone(rpc)) {
        /* The daemon may have said why before it closed. */
        pthread_mutex_unlock(&rpc->lock);
        tcc_rpc_pump(rpc);
        pthread_mutex_lock(&rpc->lock);
        rpc_end(rpc, "trtcolld has closed the connection or has died");
    }
    while (!code && !call.answered) {
        if (tcc_rpc_gone(rpc))
            code = TCW_ECONN;
        else if (!tcc_deadline_left_ms(deadline_ns, 1))
            code = TCW_ETIMEOUT;
        else
            await(rpc, deadline_ns);
    }
    call_remove(rpc, &call);
    pthread_mutex_unlock(&rpc->lock);
    return code;
}

int tcc_rpc_call(struct tcc_rpc *rpc, unsigned opcode, const void *payload, const int *fds, unsigned fd_count, unsigned expected,
                 uint64_t deadline_ns, struct tcw_packet *reply)
{
    int code;

    reply->header.opcode = 0;
    reply->fd_count = 0;
    code = exchange(rpc, opcode, payload, fds, fd_count, deadline_ns, reply);
    switch (code) {
    case 0:
        break;
    case TCW_ECONN:
        return tcc_rpc_fail_gone(rpc);
    case TCW_ETIMEOUT:
        return tcc_fail(TRTCOLL_ETIMEOUT, "trtcolld has not answered %s in time", tcw_message_name(opcode));
    default:
        return tcc_fail(TRTCOLL_EIO, "%s could not be sent to trtcolld", tcw_message_name(opcode));
    }
    if (reply->header.opcode == expected)
        return 0;
    tcw_packet_close_fds(reply);
    if (reply->header.opcode == TCW_MSG_ERROR || reply->header.opcode == TCW_MSG_GOODBYE)
        return tcc_fail_wire(&reply->payload.ERROR, NULL);
    return tcc_fail(TRTCOLL_EPROTO, "trtcolld answered %s with %s", tcw_message_name(opcode), tcw_message_name(reply->header.opcode));
}
