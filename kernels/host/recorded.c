#include <tck/recorded.h>

#include "host/comm_private.h"

enum { BEGIN_LATER_BYTES = 1024 };

static void begin(void *arg)
{
    struct tck_recording *recording = arg;
    recording->note.submit_ns = tcw_now_ns();
    recording->record = tcw_member_run_begin(recording->page, &recording->note, recording->note.submit_ns);
}

int tck_recorded_run(struct tck_comm *comm, struct tck_run *run, struct tck_recording *recording, struct tck_fault *fault)
{
    recording->note.submit_ns = 0;
    if (comm->nranks > 1 && recording->note.bytes <= BEGIN_LATER_BYTES) {
        run->under_way = begin;
        run->under_way_arg = recording;
    } else {
        begin(recording);
    }
    int code = tck_comm_run(comm, run, fault);
    if (!recording->note.submit_ns)
        begin(recording); /* it has failed before, or exchanges nothing */
    return code;
}

uint64_t tck_recording_end(struct tck_recording *recording, int code)
{
    uint64_t end_ns = tcw_now_ns();
    tcw_member_run_end(recording->page, recording->record, &recording->note, end_ns, code);
    return end_ns;
}
