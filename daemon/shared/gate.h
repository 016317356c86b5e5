/*
 * How the executors of a group agree before they launch (CUDA devices, served lane). Two small shared structures, each a memfd that the
 * control process makes and that only executors map; clients never see them.
 *
 * Gate, one per group instance: rank r publishes that it has taken its request number n, and what it is. A request is launched only when
 * all ranks have taken theirs and they agree. So whatever has been launched will be launched by every rank, and a rank that dies, stops or
 * differs is found before anything waits on a device for it. Afterwards a launch always completes: a client that does not bring its inputs
 * in time has its `ready` word raised by its executor (its result is then an error, the others' too), the communicator stays sound.
 *
 * Rank 0 decides whether a request is launched; a rank that gives up after it has taken asks rank 0, and is bound by what that one says.
 *
 * Order log, one per communicator: several instances (engines) may share a communicator, whose launches must come in the same order on all
 * ranks. Rank 0 appends the instance when its gate is open; the others launch in that order.
 *
 * Owner: the control process makes them and holds the fds. One writer per word; all words are in shared host memory.
 */
#ifndef TCD_GATE_H
#define TCD_GATE_H

#include <tcw/types.h>

#include <stdatomic.h>

struct tcd_gate_slot {
    _Alignas(TCW_TWO_LINES) _Atomic uint64_t taken; /* requests taken so far: the tag below belongs to number `taken` (from 1) */
    _Atomic uint64_t tag;                           /* plan id and tokens: tcd_gate_tag; written before `taken` */
    _Atomic uint64_t launched;                      /* of them, enqueued on the device; rank 0 says so before it does: that decides */
    _Atomic uint64_t given_up;                      /* 0, or tcw_abort_pack: this rank will not take any more */
    _Atomic uint64_t spoiled; /* 0, or the first request whose inputs never came: launched, but its result is an error */
};

struct tcd_gate {
    struct tcd_gate_slot ranks[TCW_MAX_RANKS];
};

static inline uint64_t tcd_gate_tag(uint32_t plan_id, uint32_t tokens)
{
    return (uint64_t)plan_id << 32 | tokens;
}

enum { TCD_ORDER_ENTRIES = 1024 }; /* more than can be launched and not yet consumed: rank 0 waits for the slowest when it is full */

struct tcd_order_log {
    _Alignas(TCW_TWO_LINES) _Atomic uint64_t tail; /* rank 0: entries ever written */
    struct {
        _Alignas(TCW_TWO_LINES) _Atomic uint64_t head;
    } consumed[TCW_MAX_RANKS];                                                    /* each rank: entries launched */
    _Alignas(TCW_TWO_LINES) _Atomic uint64_t attachment_group[TCD_ORDER_ENTRIES]; /* the group instance's id */
};

#endif
