#include "attachment.h"

#include "worker.h"

#include <tcw/channel.h>
#include <tcw/machine.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DROPPING = 2048 }; /* nobody who means well releases so many during one request */

/* ---- workspaces ---- */

static void workspace_free(struct tcd_ex_workspace *workspace)
{
    workspace->ops->workspace_close(workspace);
    for (uint32_t i = 0; i < workspace->mapped; ++i)
        tck_memory_release(&workspace->ranks[i]);
    free(workspace);
}

static void free_all(void *arg)
{
    struct tcd_ex_workspace *workspace = arg;
    while (workspace) {
        struct tcd_ex_workspace *next = workspace->next;
        workspace_free(workspace);
        workspace = next;
    }
}

/*
 * A list that nobody uses any more. A GPU's driver may wait for the device before it unmaps anything, and what runs there may wait for
 * another group's client: not in the main thread, nor in a worker.
 */
static void workspaces_leave(const struct tcd_ex_attachment *attachment, struct tcd_ex_workspace *first)
{
    struct tcd_ex_engine *engine = attachment->engine;
    if (first && engine->device)
        tcd_ex_chores_start(engine->chores, "unmapping a workspace", TCD_EX_UNLIMITED, free_all, first);
    else
        free_all(first);
}

/* Older generations go when no plan uses them; the newest stays for the plans to come. */
static void workspaces_trim_locked(struct tcd_ex_attachment *attachment)
{
    struct tcd_ex_workspace *unused = NULL;
    if (!attachment->workspaces)
        return;
    for (struct tcd_ex_workspace **at = &attachment->workspaces->next; *at;) {
        struct tcd_ex_workspace *workspace = *at;
        if (workspace->plans) {
            at = &workspace->next;
            continue;
        }
        *at = workspace->next;
        workspace->next = unused;
        unused = workspace;
    }
    workspaces_leave(attachment, unused);
}

static struct tcd_ex_workspace *workspace_find(struct tcd_ex_attachment *attachment, uint64_t generation)
{
    struct tcd_ex_workspace *workspace = attachment->workspaces;
    while (workspace && workspace->generation != generation)
        workspace = workspace->next;
    return workspace;
}

static int workspace_map(struct tcd_ex_workspace *workspace, struct tck_device *device, const int *fds, unsigned fd_count)
{
    for (unsigned i = 0; i < fd_count; ++i) {
        struct tck_memory *memory = &workspace->ranks[i];
        int rc = tck_memory_import(device, fds[i], workspace->bytes, memory);
        if (rc < 0)
            return rc;
        memory->fd = -1; /* the caller closes it; the mapping is enough */
        ++workspace->mapped;
    }
    return 0;
}

int tcd_ex_attachment_workspace(struct tcd_ex_attachment *attachment, const struct tcd_ex_message *message, const int *fds,
                                unsigned fd_count, char *text)
{
    if (fd_count != attachment->nranks || workspace_find(attachment, message->workspace_generation)) {
        snprintf(text, TCW_TEXT_BYTES, "workspace generation %llu: %u descriptors for %u ranks, or known already",
                 (unsigned long long)message->workspace_generation, fd_count, attachment->nranks);
        return TCW_EINVAL;
    }
    struct tcd_ex_workspace *workspace = calloc(1, sizeof *workspace);
    if (!workspace)
        return TCW_ENOMEM;
    workspace->ops = attachment->ops;
    workspace->generation = message->workspace_generation;
    workspace->bytes = message->workspace_bytes;
    int rc = workspace_map(workspace, attachment->engine->device, fds, fd_count);
    if (rc == 0)
        rc = attachment->ops->workspace_open(attachment, workspace, text);
    if (rc < 0) {
        if (!text[0])
            snprintf(text, TCW_TEXT_BYTES, "workspace generation %llu cannot be used: %s",
                     (unsigned long long)message->workspace_generation, tcw_error_text(rc));
        workspaces_leave(attachment, workspace);
        return rc;
    }
    pthread_mutex_lock(&attachment->lock);
    workspace->next = attachment->workspaces;
    attachment->workspaces = workspace;
    pthread_mutex_unlock(&attachment->lock);
    return 0;
}

/* ---- plans ---- */

int tcd_ex_attachment_plan(struct tcd_ex_attachment *attachment, const struct tcd_ex_message *message, char *text)
{
    struct tcd_ex_plan *plan = NULL;
    pthread_mutex_lock(&attachment->lock);
    struct tcd_ex_workspace *workspace = workspace_find(attachment, message->workspace_generation);
    bool without = !message->workspace_generation && attachment->engine->device; /* a library that brings its own memory runs it */
    int rc = workspace || without ? 0 : TCW_ENOENT;
    if (rc < 0)
        snprintf(text, TCW_TEXT_BYTES, "no workspace of generation %llu", (unsigned long long)message->workspace_generation);
    else
        rc = tcd_ex_plan_create(message, attachment->rank, attachment->nranks, workspace, &plan, text);
    if (rc == 0 && attachment->ops->plan)
        rc = attachment->ops->plan(attachment, plan, text);
    if (rc == 0)
        rc = tcd_ex_handle_map_add(&attachment->plans, message->handle, plan);
    if (rc == 0 && workspace) {
        ++workspace->plans;
        workspaces_trim_locked(attachment);
    }
    pthread_mutex_unlock(&attachment->lock);
    if (rc < 0)
        tcd_ex_plan_free(plan);
    return rc;
}

/* Dropped plans are on nobody's account, and a client that keeps its worker busy could pile them up. */
static void report_hoarding(struct tcd_ex_attachment *attachment)
{
    struct tcd_ex_letter *letter = attachment->hoarding ? NULL : tcd_ex_letter_create();
    if (!letter)
        return;
    attachment->hoarding = true;
    letter->message.opcode = TCD_EX_VIOLATION;
    letter->message.code = TCW_EPROTO;
    letter->message.attachment = attachment->id;
    letter->message.client = attachment->client->id;
    letter->message.rank = attachment->rank;
    letter->message.nranks = attachment->nranks;
    snprintf(letter->message.text, sizeof letter->message.text, "more than %u released plans wait for its requests to end", MAX_DROPPING);
    tcd_ex_mailbox_post(attachment->mailbox, letter);
}

int tcd_ex_attachment_plan_drop(struct tcd_ex_attachment *attachment, uint64_t handle)
{
    bool hoards = false;
    pthread_mutex_lock(&attachment->lock);
    struct tcd_ex_plan *plan = tcd_ex_handle_map_find(&attachment->plans, handle);
    if (plan && !plan->dropping) {
        /* What the client had posted when it gave the plan back is in the ring by now. */
        plan->drop_at = atomic_load_explicit(&attachment->ring.indices->sq_tail, memory_order_acquire);
        plan->dropping = true;
        hoards = ++attachment->dropping > MAX_DROPPING;
        atomic_store_explicit(&attachment->retired, true, memory_order_release);
    }
    pthread_mutex_unlock(&attachment->lock);
    if (!plan)
        return TCW_ENOENT;
    if (hoards)
        report_hoarding(attachment);
    eventfd_write(attachment->wake_event, 1);
    return 0;
}

/* Whether index `a` of a free-running counter is at or behind `b`. */
static bool reached(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) >= 0;
}

struct tcd_ex_plan *tcd_ex_attachment_find_plan(struct tcd_ex_attachment *attachment, uint64_t handle, uint32_t position)
{
    struct tcd_ex_plan *plan = attachment->last;
    /* Requests mostly repeat a plan. Whether it is being dropped matters only where any is. */
    if (plan && plan->handle == handle && !atomic_load_explicit(&attachment->retired, memory_order_acquire))
        return plan;
    pthread_mutex_lock(&attachment->lock);
    plan = tcd_ex_handle_map_find(&attachment->plans, handle);
    if (plan && plan->dropping && reached(position, plan->drop_at))
        plan = NULL;
    pthread_mutex_unlock(&attachment->lock);
    attachment->last = plan;
    return plan;
}

void tcd_ex_attachment_sweep_plans(struct tcd_ex_attachment *attachment)
{
    bool again = false;
    pthread_mutex_lock(&attachment->lock);
    atomic_store_explicit(&attachment->retired, false, memory_order_relaxed);
    attachment->last = NULL;
    struct tcd_ex_handle_map *plans = &attachment->plans;
    for (uint32_t i = 0; i < plans->capacity;) {
        struct tcd_ex_plan *plan = plans->slots[i].handle ? plans->slots[i].object : NULL;
        bool dropping = plan && plan->dropping;
        bool busy = dropping && (!reached(attachment->ring.sq_local, plan->drop_at) || plan->running);
        again |= busy;
        if (!dropping || busy || plan->captured) {
            ++i; /* captured: until graphs have done with it; what they give back asks for another look */
        } else {
            /* Removing may move another entry into this slot: look at it again. */
            tcd_ex_handle_map_remove(plans, plan->handle);
            if (plan->workspace)
                --plan->workspace->plans;
            --attachment->dropping;
            tcd_ex_plan_free(plan);
        }
    }
    workspaces_trim_locked(attachment);
    if (again)
        atomic_store_explicit(&attachment->retired, true, memory_order_relaxed);
    pthread_mutex_unlock(&attachment->lock);
}

/* ---- life ---- */

static void *map_shared(int fd, uint64_t *bytes, const char **why)
{
    struct stat status;
    if (tcw_memfd_check(fd, 1, why) < 0)
        return NULL;
    if (fstat(fd, &status) < 0) {
        *why = "cannot be examined";
        return NULL;
    }
    *bytes = (uint64_t)status.st_size;
    void *base = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        *why = "cannot be mapped";
        return NULL;
    }
    return base;
}

static int watch(int epoll, int fd)
{
    /* Edge-triggered and never read: the counter belongs to the client too, which could make a read block. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static int attachment_map(struct tcd_ex_attachment *attachment, const int *fds, const char **why)
{
    *why = "unknown";
    attachment->page = map_shared(fds[0], &attachment->page_bytes, why);
    if (!attachment->page)
        return TCW_EINVAL;
    if (tcw_member_page_check(attachment->page, attachment->page_bytes, attachment->page->group_id, attachment->rank, attachment->nranks) <
        0) {
        *why = "not this rank's member page";
        return TCW_EINVAL;
    }
    attachment->ring_base = map_shared(fds[1], &attachment->ring_bytes, why);
    if (!attachment->ring_base)
        return TCW_EINVAL;
    /* Without eventfds: both are used in ways that a client cannot turn against this thread (worker.c). */
    if (tcw_ring_open(&attachment->ring, attachment->ring_base, attachment->ring_bytes, -1, -1) < 0) {
        *why = "not a ring";
        return TCW_EINVAL;
    }
    attachment->wake_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    attachment->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (attachment->wake_event < 0 || attachment->epoll < 0 || watch(attachment->epoll, fds[2]) < 0 ||
        watch(attachment->epoll, attachment->wake_event) < 0) {
        *why = strerror(errno);
        return TCW_EIO;
    }
    return 0;
}

/* Everything but the thread and the client's eventfds. */
static void attachment_unmap(struct tcd_ex_attachment *attachment)
{
    struct tcd_ex_plan *plan;
    while ((plan = tcd_ex_handle_map_pop(&attachment->plans)))
        tcd_ex_plan_free(plan);
    tcd_ex_handle_map_free(&attachment->plans);
    workspaces_leave(attachment, attachment->workspaces);
    if (attachment->ops->detach)
        attachment->ops->detach(attachment);
    if (attachment->epoll >= 0)
        close(attachment->epoll);
    if (attachment->wake_event >= 0)
        close(attachment->wake_event);
    if (attachment->ring_base)
        munmap(attachment->ring_base, attachment->ring_bytes);
    if (attachment->page)
        munmap(attachment->page, attachment->page_bytes);
    pthread_mutex_destroy(&attachment->lock);
    free(attachment->fault);
    free(attachment->violation);
    free(attachment);
}

int tcd_ex_attachment_create(const struct tcd_ex_message *message, const int *fds, struct tcd_ex_client *client,
                             struct tcd_ex_engine *engine, struct tcd_ex_attachment **out, char *text)
{
    if (message->nranks < 1 || message->nranks > TCW_MAX_RANKS || message->rank >= message->nranks) {
        snprintf(text, TCW_TEXT_BYTES, "rank %u of %u", message->rank, message->nranks);
        return TCW_EINVAL;
    }
    struct tcd_ex_attachment *attachment = calloc(1, sizeof *attachment);
    if (!attachment)
        return TCW_ENOMEM;
    attachment->id = message->attachment;
    attachment->rank = message->rank;
    attachment->nranks = message->nranks;
    attachment->spin_us = message->spin_us;
    attachment->crowded = tcw_crowded(2 * message->nranks);
    attachment->client = client;
    attachment->engine = engine;
    attachment->ops = engine->ops;
    attachment->mailbox = engine->mailbox;
    attachment->sq_event = fds[2];
    attachment->cq_event = fds[3];
    attachment->wake_event = attachment->epoll = -1;
    pthread_mutex_init(&attachment->lock, NULL);
    attachment->fault = tcd_ex_letter_create();
    attachment->violation = tcd_ex_letter_create();
    const char *why = tcw_error_text(TCW_ENOMEM);
    int rc = attachment->fault && attachment->violation ? attachment_map(attachment, fds, &why) : TCW_ENOMEM;
    if (rc == 0) {
        atomic_store(&attachment->own_deadline_ns, message->deadline_ns);
        bool in_page = atomic_load(&attachment->page->deadline_ns) != 0;
        attachment->deadline_ns = in_page ? &attachment->page->deadline_ns : &attachment->own_deadline_ns;
        why = "";
        if (engine->ops->attach)
            rc = engine->ops->attach(attachment, message, fds + 4, text);
    }
    if (rc == 0) {
        rc = tcd_ex_worker_start(attachment);
        why = "no thread";
    }
    if (rc < 0) {
        if (!text[0])
            snprintf(text, TCW_TEXT_BYTES, "the membership cannot be served: %s", why);
        attachment_unmap(attachment);
        return rc;
    }
    *out = attachment;
    return 0;
}

void tcd_ex_attachment_abort(struct tcd_ex_attachment *attachment, int code, uint32_t rank)
{
    uint64_t none = 0;
    atomic_compare_exchange_strong(&attachment->abort_word, &none, tcw_abort_pack(code ? code : TCW_EABORTED, rank));
}

void tcd_ex_attachment_stop(struct tcd_ex_attachment *attachment)
{
    tcd_ex_attachment_abort(attachment, TCW_EABORTED, TCW_NOBODY);
    atomic_store_explicit(&attachment->stop, true, memory_order_release);
    eventfd_write(attachment->wake_event, 1);
    /* Should it hang in a write to an eventfd that its client has filled: see worker.c. */
    if (!atomic_load(&attachment->ended))
        pthread_kill(attachment->thread, SIGUSR1);
}

void tcd_ex_attachment_free(struct tcd_ex_attachment *attachment)
{
    pthread_join(attachment->thread, NULL);
    close(attachment->sq_event);
    close(attachment->cq_event);
    attachment_unmap(attachment);
}
