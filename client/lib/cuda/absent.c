/* What stands in for GPUs where CUDA is not built in: a context never gets one, so that nothing else is ever called. */
#include "cuda/gpu.h"

#include "error.h"

int tcc_gpu_open(struct trtcoll_ctx *ctx, const unsigned char *uuid)
{
    (void)ctx;
    (void)uuid;
    return tcc_fail_plainly(TRTCOLL_ENOTSUP, "the group's devices are GPUs, and this library was built without CUDA");
}

void tcc_gpu_settle(struct trtcoll_ctx *ctx)
{
    (void)ctx;
}

void tcc_gpu_close(struct trtcoll_ctx *ctx)
{
    (void)ctx;
}

struct tck_device *tcc_gpu_device(const struct tcc_gpu *gpu)
{
    (void)gpu;
    return NULL;
}

const char *tcc_gpu_name(const struct tcc_gpu *gpu)
{
    (void)gpu;
    return "";
}

const unsigned char *tcc_gpu_uuid(const struct tcc_gpu *gpu)
{
    (void)gpu;
    return NULL;
}

int tcc_lane_create(struct tcc_member *member)
{
    (void)member;
    return TRTCOLL_ENOTSUP;
}

void tcc_lane_destroy(struct tcc_member *member)
{
    (void)member;
}

int tcc_lane_multicast_check(void)
{
    return TRTCOLL_ENOTSUP;
}

int tcc_lane_connect(struct tcc_member *member, struct tcc_workspace *workspace)
{
    (void)member;
    (void)workspace;
    return TRTCOLL_ENOTSUP;
}

void tcc_lane_disconnect(struct tcc_member *member, struct tcc_workspace *workspace)
{
    (void)member;
    (void)workspace;
}

void tcc_lane_end(struct tcc_member *member)
{
    (void)member;
}

tcc_lane_use tcc_lane_in_use(struct tcc_member *member, struct tcc_workspace *workspace)
{
    (void)member;
    (void)workspace;
    return TCC_LANE_IDLE;
}

void tcc_gpu_park(struct tcc_member *member)
{
    (void)member;
}

int tcc_lane_run(struct trtcoll_plan *plan, const struct tcc_run *run, struct trtcoll_event **event)
{
    (void)plan;
    (void)run;
    (void)event;
    return TRTCOLL_ENOTSUP;
}

int tcc_mark_query(struct trtcoll_event *event)
{
    (void)event;
    return 0;
}

void tcc_mark_destroy(struct trtcoll_event *event)
{
    (void)event;
}

int tcc_words_create(struct tcc_served *served)
{
    (void)served;
    return TRTCOLL_ENOTSUP;
}

void tcc_words_destroy(struct tcc_served *served)
{
    (void)served;
}

int tcc_words_enqueue(struct tcc_served *served, struct tcc_flight *flight, const struct tcc_run *run, uint64_t number, bool wants_event,
                      int *late)
{
    (void)served;
    (void)flight;
    (void)run;
    (void)number;
    (void)wants_event;
    (void)late;
    return TRTCOLL_ENOTSUP;
}

void tcc_words_failed(struct tcc_served *served, const struct tcc_flight *flight)
{
    (void)served;
    (void)flight;
}

bool tcc_words_in_use(struct tcc_served *served)
{
    (void)served;
    return false;
}

int tcc_words_drained(struct tcc_served *served, const struct tcc_flight *flight)
{
    (void)served;
    (void)flight;
    return 0;
}

int tcc_captured_run(struct trtcoll_plan *plan, const struct tcc_run *run, bool wants_event, bool *captured)
{
    (void)plan;
    (void)run;
    (void)wants_event;
    (void)captured;
    return TRTCOLL_ENOTSUP;
}

bool tcc_captured_in_use(struct tcc_served *served)
{
    (void)served;
    return false;
}

void tcc_captured_destroy(struct tcc_served *served)
{
    (void)served;
}

bool tcc_captured_any(const struct tcc_served *served)
{
    (void)served;
    return false;
}

void tcc_captured_answered(struct tcc_served *served, const struct tcc_flight *flight, int result)
{
    (void)served;
    (void)flight;
    (void)result;
}

void tcc_captured_refresh(struct tcc_served *served)
{
    (void)served;
}

void tcc_captured_collect(struct tcc_served *served)
{
    (void)served;
}

void tcc_captured_end(struct tcc_served *served)
{
    (void)served;
}

int tcc_share_register(struct trtcoll_ctx *ctx, const void *pointer, uint64_t bytes, uint64_t *handle)
{
    (void)ctx;
    (void)pointer;
    (void)bytes;
    (void)handle;
    return TRTCOLL_ENOTSUP;
}
