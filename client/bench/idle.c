/*
 * What a daemon costs while its clients compute: processor time of the control process and its executors, with ranks attached, plans of
 * both lanes made and used, and nothing to do.
 */
#include "fleet.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { RUNS = 50, PATIENCE_S = 60, MAX_EXECUTORS = 64 };
#define SETTLE_US 1500000 /* what follows the last request: waiters that spin, then sleep */

static int use_lane(struct fleet_rank *rank, trtcoll_lane lane)
{
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct trtcoll_plan *plan;
    desc.lane = lane;
    int code = trtcoll_plan_create_barrier(rank->group, &desc, &plan);
    for (uint32_t i = 0; i < RUNS && code == 0; i++)
        code = trtcoll_plan_run(plan, &args, NULL, NULL);
    return code == 0 ? 0 : fleet_complain(rank, "barrier", code);
}

static int idle_body(struct fleet_rank *rank)
{
    int code = use_lane(rank, TRTCOLL_LANE_DIRECT);
    if (code == 0)
        code = use_lane(rank, TRTCOLL_LANE_SERVED);
    if (code == 0)
        fleet_ready(rank);
    return code;
}

/* Processor time of all threads of a process so far; finer than the ticks of /proc/PID/stat. */
static double process_cpu_s(pid_t pid)
{
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0)
        return 0;
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

static uint32_t children_of(pid_t parent, pid_t *children, uint32_t max)
{
    uint32_t count = 0;
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    while (processes && (entry = readdir(processes)) != NULL && count < max) {
        char path[300];
        int owner = 0;
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
            continue;
        snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
        FILE *file = fopen(path, "r");
        /* The name in parentheses may contain anything but is at most 15 bytes; the daemon's executors have plain ones. */
        if (file && fscanf(file, "%*d (%*[^)]) %*c %d", &owner) == 1 && owner == (int)parent)
            children[count++] = (pid_t)strtol(entry->d_name, NULL, 10);
        if (file)
            fclose(file);
    }
    if (processes)
        closedir(processes);
    return count;
}

static void sample(const struct settings *settings, pid_t daemon, struct idle_result *result)
{
    pid_t executors[MAX_EXECUTORS];
    double before[MAX_EXECUTORS], executor_s = 0;
    usleep(SETTLE_US);
    uint32_t count = children_of(daemon, executors, MAX_EXECUTORS);
    uint64_t start = loop_now_ns();
    double control = process_cpu_s(daemon);
    for (uint32_t i = 0; i < count; i++)
        before[i] = process_cpu_s(executors[i]);
    usleep((useconds_t)(settings->idle_s * 1e6));
    control = process_cpu_s(daemon) - control;
    for (uint32_t i = 0; i < count; i++)
        executor_s += process_cpu_s(executors[i]) - before[i];
    double seconds = (double)(loop_now_ns() - start) / 1e9;
    *result = (struct idle_result){.measured = true,
                                   .seconds = seconds,
                                   .control_percent = 100 * control / seconds,
                                   .executor_percent = 100 * executor_s / seconds,
                                   .executors = count,
                                   .clients = settings->ranks};
}

int idle_measure(const struct settings *settings, pid_t daemon, struct idle_result *result)
{
    struct fleet *fleet = fleet_start(settings, settings->ranks, 1, idle_body, NULL);
    int status = EXIT_FAILED;
    if (fleet && fleet_await_ready(fleet, PATIENCE_S)) {
        sample(settings, daemon, result);
        fleet_release(fleet);
        status = fleet_wait(fleet, PATIENCE_S);
    }
    fleet_destroy(fleet);
    return status;
}
