/*
 * One request on its way through a worker: the private copy taken from the ring, checked against its plan and its client's registrations,
 * and turned into the pointers of a run. Everything a client wrote is judged here, before the device layer sees any of it.
 *
 * Lives in an executor process; one per worker, reused for every request (no allocation on the way).
 */
#ifndef TCD_EXECUTOR_JOB_H
#define TCD_EXECUTOR_JOB_H

#include "client.h"
#include "plan.h"

#include <tck/comm.h>
#include <tcw/ring.h>

struct tcd_ex_job {
    struct tcw_request request;
    struct tck_run run;
    void *addresses[TCW_MAX_REFS];
    struct tcd_ex_memory *pins[TCW_MAX_REFS];
    unsigned pin_count;
    char text[TCW_TEXT_BYTES]; /* why it was refused */
};

/*
 * Checks job->request against `plan` and fills job->run; pins its memory. 0, TCW_EINVAL or TCW_ENOENT with job->text set; in either case
 * tcd_ex_job_release is due.
 */
int tcd_ex_job_prepare(struct tcd_ex_job *job, struct tcd_ex_plan *plan, struct tcd_ex_client *client);
/* True if the main thread waits for what has become free. */
bool tcd_ex_job_release(struct tcd_ex_job *job);

#endif
