/*
 * A client without the client library: speaks the contract by hand, truly or not. For hostile peers, and for ABI ranges that no library
 * has. Functions end the rank (CHECK) when the harness's own expectations fail; what the daemon does is returned.
 */
#ifndef PROC_RAW_H
#define PROC_RAW_H

#include "harness.h"

#include <tcw/channel.h>
#include <tcw/member.h>
#include <tcw/ring.h>

struct raw {
    int socket;
    uint32_t sequence;
    uint64_t generation, client_id;
    struct tcw_packet packet; /* the latest one received */
};

/* What a served membership of a raw client looks like. */
struct raw_ring {
    uint64_t group_id, plan;
    struct tcw_plan_desc desc;
    struct tcw_member_page *page;
    void *base;
    uint64_t bytes;
    int ring_fd, page_fd, sq_event, cq_event;
    struct tcw_ring ring;
    uint32_t sequence;
    /* Memory that requests may name. */
    uint64_t memory;
    unsigned char *data;
    uint64_t data_bytes;
    int data_fd;
};

void raw_connect(struct raw *raw, const struct proc_me *me);
void raw_close(struct raw *raw);

/* Sends exactly these bytes and descriptors. False when the daemon has closed the connection. */
bool raw_send_bytes(struct raw *raw, const void *bytes, size_t size, const int *fds, unsigned fd_count);
/* A well-formed message of this opcode. */
bool raw_send(struct raw *raw, unsigned opcode, const void *payload, const int *fds, unsigned fd_count);
/* 1: raw->packet is filled (the caller owns its fds); 0: nothing came; TCW_ECONN: closed by the daemon. */
int raw_receive(struct raw *raw, unsigned timeout_ms);
/* Sends and waits for the answer: its opcode, or TCW_ECONN. Announcements are skipped. */
int raw_ask(struct raw *raw, unsigned opcode, const void *payload, const int *fds, unsigned fd_count);
/* Sends and wants an ERROR with this code. */
void raw_refused(struct raw *raw, unsigned opcode, const void *payload, const int *fds, unsigned fd_count, int code);
/* Waits until the daemon has closed the connection; a GOODBYE before that is fine and checked. */
void raw_expelled(struct raw *raw, const char *what);
/* The connection is alive: a harmless request is answered. */
void raw_alive(struct raw *raw, const char *what);

/* The usual beginning: hello. */
void raw_hello(struct raw *raw, const struct proc_me *me);
/* And a served plan (plain fp32 all-reduce of 8 elements, 4 tokens) in a group of one, with ring, page and 64 KiB of memory mapped. */
void raw_ring_open(struct raw *raw, struct raw_ring *ring, const char *group);
void raw_ring_close(struct raw_ring *ring);
/* Posts a request and waits for its completion: its result, or 1 when none came (the connection may be closed by then). */
int raw_ring_run(struct raw_ring *ring, struct tcw_sqe head, const struct tcw_ref *refs);
/* A request that is in order: in and out in the client's memory. */
struct tcw_sqe raw_ring_good(struct raw_ring *ring, struct tcw_ref refs[2]);

#endif
