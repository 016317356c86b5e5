/*
 * A run of host devices with its record in the member page: what stats, dump and latencies tell of it. The same in a client (direct lane)
 * and in an executor (served lane).
 *
 * Owner: the caller, on its stack. Threads: the one that runs the communicator.
 */
#ifndef TCK_RECORDED_H
#define TCK_RECORDED_H

#include <tck/comm.h>

struct tck_recording {
    struct tcw_member_page *page;
    struct tcw_run_note note; /* submit_ns: set by the run */
    uint64_t record;
};

/*
 * As tck_comm_run. The record is begun by then, and left for tck_recording_end. Short runs between peers (note.bytes) are begun when they
 * are under way: a reading of the clock and the entry take a tenth of their time, and the peers would wait for them. `run->under_way` is
 * this function's.
 */
int tck_recorded_run(struct tck_comm *comm, struct tck_run *run, struct tck_recording *recording, struct tck_fault *fault);

/* Reads the clock, and ends the record with the run's code. */
uint64_t tck_recording_end(struct tck_recording *recording, int code);

#endif
