/*
 * Nothing hangs: a rank is killed, or stopped, while all of them run without pause, in every strategy, eager and captured. The survivors'
 * kernels must end, by the abort word that the parent raises (as the control process would) or by their own deadline; the page must say
 * why and name the rank; the survivors' contexts must still work. Then the same survivors and a spare in the place of the dead one form
 * the group anew, whose first result must be right, and the next one dies.
 */
#include "comm_crew.h"
#include "comm_modes.h"
#include "comm_spans.h"

#include <tcw/plan.h>

#include <stdio.h>
#include <unistd.h>

enum {
    REGION_BYTES = 1 << 20,
    KINDS = 48,      /* strategy, eager or captured, plain or with the norm, many tokens or few */
    LEAST_KILLS = 24 /* all of these with many tokens */
};

static const uint64_t deadline_ns = UINT64_C(300000000), long_deadline_ns = UINT64_C(30000000000), patience_ns = UINT64_C(30000000000);

struct show {
    struct comm_board *board;
    struct comm_crew crew;
    unsigned killed, stopped, failed, short_of_spares;
    struct comm_spans death;   /* SIGKILL to the end of the process */
    struct comm_spans aborted; /* the abort word raised to the end of all kernels */
    struct comm_spans ended;   /* SIGKILL to the end of all kernels: both together */
    struct comm_spans overdue; /* SIGSTOP to the end of all kernels */
    struct comm_spans formed;  /* from there, with a spare at hand, to a group of members with mapped workspaces */
    struct comm_spans first;   /* its first run */
};

/* Kinds, victims and how a scene ends have rows of lengths without common divisors, so that everything meets everything. */
static struct comm_scene scene_of(unsigned number)
{
    static const uint32_t strategies[] = {TCW_STRATEGY_ONESHOT, TCW_STRATEGY_TWOSHOT,  TCW_STRATEGY_MIN_LATENCY,
                                          TCW_STRATEGY_MNNVL,   TCW_STRATEGY_SYMM_MEM, TCW_STRATEGY_UB};
    return (struct comm_scene){
        .number = number,
        .strategy = strategies[number % 6],
        .captured = number / 6 % 2,
        .fusion = number / 12 % 2 ? TCW_FUSION_NONE : TCW_FUSION_RESIDUAL_RMS_NORM,
        .tokens = number / 24 % 2 ? 8 : COMM_SCENE_TOKENS,
        .stop = number % 7 == 3, /* mostly deaths: a deadline takes its time */
    };
}

/* Some die several times in a row, so that the others outlive several. */
static uint32_t victim_of(unsigned number, uint32_t nranks)
{
    return (number / 3 + number / KINDS) % nranks;
}

static void say_failure(const struct comm_scene *scene, const char *what)
{
    fprintf(stderr, "scene %llu, %s, %s, %s, %s, %u tokens: %s FAILED\n", (unsigned long long)scene->number,
            scene->stop ? "SIGSTOP" : "SIGKILL", tcw_strategy_name(scene->strategy), scene->captured ? "captured" : "eager",
            tcw_fusion_name(scene->fusion), scene->tokens, what);
}

/* What all said last, or the longest that one of them took. */
static uint64_t latest(struct show *show, comm_word word, uint32_t except)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < show->board->nranks; i++) {
        uint64_t at = i == except ? 0 : comm_crew_member(&show->crew, i)->news[word].at_ns;
        most = at > most ? at : most;
    }
    return most;
}

static uint64_t longest(struct show *show, comm_word word)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < show->board->nranks; i++) {
        uint64_t span = comm_crew_member(&show->crew, i)->news[word].span_ns;
        most = span > most ? span : most;
    }
    return most;
}

/* A new epoch of the group, spares in the place of the dead, up to its first result. */
static int form(struct show *show, const struct comm_scene *scene)
{
    struct comm_board *board = show->board;
    uint64_t start = tcw_now_ns();
    if (comm_crew_cast(&show->crew))
        return -1;
    show->short_of_spares += scene->number && tcw_now_ns() - start > UINT64_C(1000000);
    for (uint32_t i = 0; i < board->nranks; i++)
        tcw_member_page_format(board->page[i], 1, scene->number + 1, i, board->nranks, long_deadline_ns);
    start = tcw_now_ns();
    if (comm_crew_order(&show->crew, scene) || comm_crew_await(&show->crew, COMM_FORMED, TCW_NOBODY))
        return -1;
    comm_spans_add(&show->formed, latest(show, COMM_FORMED, TCW_NOBODY) - start);
    if (comm_crew_await(&show->crew, COMM_RIGHT, TCW_NOBODY))
        return -1;
    comm_spans_add(&show->first, longest(show, COMM_RIGHT));
    return 0;
}

/* Until the rank has done so many more runs. */
static int await_steps(struct show *show, uint32_t rank, uint64_t more)
{
    const struct tcw_device_progress *device = &show->board->page[rank]->device;
    uint64_t end = tcw_now_ns() + patience_ns, wanted = atomic_load(&device->steps) + more;
    while (atomic_load(&device->steps) < wanted) {
        uint64_t fault = atomic_load(&device->fault);
        if (fault || tcw_now_ns() > end) {
            fprintf(stderr, "rank %u: only %llu of %llu runs: %s\n", rank, (unsigned long long)atomic_load(&device->steps),
                    (unsigned long long)wanted, fault ? tcw_error_name(tcw_abort_code(fault)) : "the end of patience");
            return -1;
        }
        if (comm_crew_listen(&show->crew, 0))
            return -1;
        usleep(100);
    }
    return 0;
}

/* What every survivor's page says of the end. */
static bool judge(const struct show *show, const struct comm_scene *scene, uint32_t victim)
{
    int want = scene->stop ? TCW_ETIMEOUT : TCW_EPEERDEAD;
    bool good = true;
    for (uint32_t i = 0; i < show->board->nranks; i++) {
        uint64_t fault = atomic_load(&show->board->page[i]->device.fault);
        if (i == victim || (tcw_abort_code(fault) == want && tcw_abort_culprit(fault) == victim))
            continue;
        fprintf(stderr, "rank %u: fault %s of rank %u, not %s of rank %u\n", i, tcw_error_name(tcw_abort_code(fault)),
                tcw_abort_culprit(fault), tcw_error_name(want), victim);
        good = false;
    }
    return good;
}

/* The process ends, its GPU is closed: then the control process would hear of it, too. */
static int kill_victim(struct show *show, uint32_t victim)
{
    uint64_t killed = tcw_now_ns();
    if (comm_crew_kill(&show->crew, victim))
        return -1;
    uint64_t raised = tcw_now_ns();
    for (uint32_t i = 0; i < show->board->nranks; i++)
        atomic_store(&show->board->page[i]->abort_word, tcw_abort_pack(TCW_EPEERDEAD, victim));
    if (comm_crew_await(&show->crew, COMM_ENDED, victim))
        return -1;
    uint64_t ended = latest(show, COMM_ENDED, victim);
    comm_spans_add(&show->death, raised - killed);
    comm_spans_add(&show->aborted, ended > raised ? ended - raised : 0);
    comm_spans_add(&show->ended, ended - killed);
    show->killed++;
    return 0;
}

/* Deadlines are read from memory: this one holds from now on, for captured runs and waits that have begun as well. */
static int stop_victim(struct show *show, uint32_t victim)
{
    for (uint32_t i = 0; i < show->board->nranks; i++)
        atomic_store(&show->board->page[i]->deadline_ns, deadline_ns);
    uint64_t stopped = tcw_now_ns();
    comm_crew_stop(&show->crew, victim);
    if (comm_crew_await(&show->crew, COMM_ENDED, victim))
        return -1;
    comm_spans_add(&show->overdue, latest(show, COMM_ENDED, victim) - stopped);
    show->stopped++;
    return comm_crew_kill(&show->crew, victim);
}

/* One scene; -1 when no other can follow. */
static int play(struct show *show, const struct comm_scene *scene)
{
    uint32_t victim = victim_of((unsigned)scene->number, show->board->nranks);
    if (form(show, scene))
        return -1;
    if (await_steps(show, victim, 40 + scene->number * 37 % 260))
        return -1;
    if (scene->stop ? stop_victim(show, victim) : kill_victim(show, victim))
        return -1;
    if (!judge(show, scene, victim)) {
        say_failure(scene, "what the pages say");
        show->failed++;
    }
    return comm_crew_hire(&show->crew, victim);
}

static void say_times(struct show *show, uint32_t spares, double seconds)
{
    unsigned count = show->killed + show->stopped;
    char death[64], aborted[64], ended[64], overdue[64], formed[64], first[64];
    printf(
        "  %u kills of %u ranks in %.1f s, %.0f ms each: %u by SIGKILL, %u by SIGSTOP; %u spares for each GPU, %u times none was ready\n",
        count, show->board->nranks, seconds, count ? seconds * 1e3 / count : 0, show->killed, show->stopped, spares, show->short_of_spares);
    printf("  ms, least/median/most: SIGKILL to all kernels ended %s (death %s + abort word %s), SIGSTOP to all ended %s; re-formed in %s, "
           "first result %s\n",
           comm_spans_text(&show->ended, ended, sizeof(ended)), comm_spans_text(&show->death, death, sizeof(death)),
           comm_spans_text(&show->aborted, aborted, sizeof(aborted)), comm_spans_text(&show->overdue, overdue, sizeof(overdue)),
           comm_spans_text(&show->formed, formed, sizeof(formed)), comm_spans_text(&show->first, first, sizeof(first)));
}

/* Several are being opened at any time, and one should be ready: the fewer GPUs, the more often each of them loses a process. */
static uint32_t spares_for(const struct comm_options *options)
{
    uint32_t spares = options->spares ? options->spares : 16 / options->ranks;
    return spares < 2 ? 2 : spares < COMM_MOST_SPARES ? spares : COMM_MOST_SPARES;
}

static void play_all(struct show *show, const struct comm_options *options, uint64_t begin)
{
    uint64_t end = begin + options->seconds * UINT64_C(1000000000), told = begin;
    for (unsigned i = 0; options->soak ? i < options->soak : i < LEAST_KILLS || tcw_now_ns() < end; i++) {
        struct comm_scene scene = scene_of(i);
        if (play(show, &scene)) {
            if (show->crew.code != COMM_SKIP)
                say_failure(&scene, "this scene");
            comm_crew_abandon(&show->crew);
            show->failed++;
            return;
        }
        if (tcw_now_ns() - told > UINT64_C(5000000000)) {
            told = tcw_now_ns();
            printf("%u kills in %.0f s\n", i + 1, (double)(told - begin) / 1e9);
            fflush(stdout);
        }
    }
}

static void free_spans(struct show *show)
{
    struct comm_spans *all[] = {&show->death, &show->aborted, &show->ended, &show->overdue, &show->formed, &show->first};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        comm_spans_free(all[i]);
}

int comm_kill(const struct comm_options *options)
{
    static struct show show; /* large */
    uint32_t spares = spares_for(options);
    show = (struct show){.board = comm_board_create(options->ranks, 0, 60)};
    show.board->region_bytes = REGION_BYTES;
    uint64_t begin = tcw_now_ns();
    if (!comm_crew_open(&show.crew, show.board, spares))
        play_all(&show, options, begin);
    double seconds = (double)(tcw_now_ns() - begin) / 1e9;
    int code = comm_crew_close(&show.crew);
    code = !code && show.failed ? 1 : code;
    if (code != COMM_SKIP) {
        say_times(&show, spares, seconds);
        printf("kill: %u ranks: %s\n", options->ranks, code ? "FAILED" : "right");
    }
    free_spans(&show);
    comm_board_destroy(show.board);
    return code;
}
