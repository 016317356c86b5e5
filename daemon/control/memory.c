#include "memory.h"

#include "daemon.h"
#include "reclaim.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { GPU_GRANULE = 2 << 20 };

/* Each is a descriptor held here, and descriptors are everybody's: one uid gets a quarter of them. */
static uint32_t max_memories(void)
{
    struct rlimit files;

    return getrlimit(RLIMIT_NOFILE, &files) || files.rlim_cur > 1u << 20 ? 1u << 18 : (uint32_t)files.rlim_cur / 4;
}

/* A request to an executor on behalf of a client, which may be gone when the answer comes: handles, no pointers. */
struct call {
    struct tcd_daemon *daemon;
    uint64_t client;
    uint64_t memory;
    struct tcd_device *device;   /* these stay as long as the daemon */
    struct tcd_account *account; /* while it keeps the charge */
    uint64_t charged;            /* MEM_FREE: to give back */
    int fd;                      /* MEM_FREE of memory made here: to be reclaimed */
    bool registered;
    uint32_t sequence;
};

static struct call *call_new(const struct tcd_memory *memory, uint32_t sequence)
{
    struct call *call = calloc(1, sizeof(*call));

    if (call)
        *call = (struct call){.daemon = memory->client->daemon,
                              .client = memory->client->handle,
                              .memory = memory->handle,
                              .device = memory->client->device,
                              .account = memory->client->account,
                              .charged = memory->charged,
                              .fd = -1,
                              .registered = memory->registered,
                              .sequence = sequence};
    return call;
}

static void give_back(struct tcd_client *client, uint64_t charged, bool registered)
{
    tcd_quota_give(&client->usage, client->account, TCD_BYTES, charged);
    if (registered)
        client->registered_bytes -= charged;
}

/* Forgets the object; what it is charged is the caller's to give back. */
static void memory_drop(struct tcd_memory *memory)
{
    unsigned i;

    for (i = 0; i < memory->fd_count; i++)
        close(memory->fds[i]);
    free(memory->fds);
    memory->client->account->memories -= memory->objects;
    tcd_list_remove(&memory->link);
    tcd_handle_remove(&memory->client->daemon->memories, memory->handle);
    free(memory);
}

static void memory_refuse(struct tcd_memory *memory, uint32_t sequence, const struct tcw_error *error)
{
    tcd_client_refuse(memory->client, sequence, error);
    give_back(memory->client, memory->charged, memory->registered);
    if (!memory->registered)
        memory->client->device->memory_bytes -= memory->charged;
    memory_drop(memory);
}

static bool is_cuda(const struct tcd_memory *memory)
{
    return memory->client->device->kind == TCF_DEVICE_CUDA;
}

/* The descriptors become the memory's: taken from `fds`, which get -1. */
static int memory_take_fds(struct tcd_memory *memory, int *fds, unsigned count)
{
    unsigned i;

    memory->fds = count ? malloc(count * sizeof(*fds)) : NULL;
    if (count && !memory->fds)
        return TCW_ENOMEM;
    for (i = 0; i < count; i++) {
        memory->fds[i] = fds[i];
        fds[i] = -1;
    }
    memory->fd_count = count;
    memory->made = true;
    return 0;
}

/* Memory made here ends otherwise than by closing its descriptor. */
static int memory_give_fd(struct tcd_memory *memory)
{
    if (!memory->fd_count)
        return -1;
    memory->fd_count = 0;
    return memory->fds[0];
}

static struct tcd_memory *memory_create(struct tcd_client *client, uint64_t bytes, bool registered, uint32_t objects,
                                        bool (*fits)(const void *arg, const struct tcd_device *device), struct tcw_error *error)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct tcd_memory *memory;
    struct tcd_device *device;

    if (!bytes || bytes > 1ull << 50) {
        tcd_error_set(error, TCW_EINVAL, "%llu bytes asked for, allowed: 1 to 2^50", (unsigned long long)bytes);
        return NULL;
    }
    if (client->account->memories + objects > max_memories()) {
        tcd_error_set(error, TCW_EQUOTA, "%u memory objects held by clients of uid %u, %u are allowed", client->account->memories,
                      client->uid, max_memories());
        return NULL;
    }
    device = client->device ? client->device : tcd_device_least(client->daemon, fits, NULL);
    if (!device) {
        tcd_error_set(error, TCW_ENOTSUP, "this node has no device for it that operations can run on");
        return NULL;
    }
    if (tcd_device_check(device, error))
        return NULL;
    memory = calloc(1, sizeof(*memory));
    if (!memory) {
        tcd_error_set(error, TCW_ENOMEM, "no memory for a memory object");
        return NULL;
    }
    if (!registered && device->kind == TCF_DEVICE_CUDA)
        page = GPU_GRANULE;
    bytes = (bytes + page - 1) / page * page;
    if (tcd_quota_take(&client->usage, client->account, &client->daemon->config->options, TCD_BYTES, bytes, error)) {
        free(memory);
        return NULL;
    }
    *memory = (struct tcd_memory){.client = client, .bytes = bytes, .charged = bytes, .registered = registered, .objects = objects};
    memory->handle = tcd_handle_add(&client->daemon->memories, memory);
    if (!memory->handle) {
        tcd_quota_give(&client->usage, client->account, TCD_BYTES, bytes);
        free(memory);
        tcd_error_set(error, TCW_ENOMEM, "no memory for a memory object");
        return NULL;
    }
    tcd_client_bind(client, device);
    if (registered)
        client->registered_bytes += bytes;
    else
        device->memory_bytes += bytes;
    client->account->memories += objects;
    tcd_list_append(&client->memories, &memory->link);
    return memory;
}

/* ---- telling the executor ---- */

static void answer_ready(struct tcd_memory *memory, uint32_t sequence)
{
    struct tcw_mem_ready ready = {.handle = memory->handle, .bytes = memory->bytes};

    memory->known = true;
    tcd_client_send(memory->client, TCW_MSG_MEM_READY, sequence, &ready, memory->fds, memory->registered ? 0 : 1);
}

static void on_known(void *arg, const struct tcd_ex_message *answer, int fd)
{
    struct call *call = arg;
    struct tcd_memory *memory = tcd_handle_get(&call->daemon->memories, call->memory);
    struct tcw_error error;

    if (fd >= 0)
        close(fd);
    if (memory && answer->code && answer->code != TCW_EEXECUTOR) {
        tcd_error_set(&error, answer->code, "the executor of device %u: %.200s", memory->client->device->number, answer->text);
        memory_refuse(memory, call->sequence, &error);
    } else if (memory) {
        /* An executor that died meanwhile changes nothing: the next one is told before it serves anything. */
        answer_ready(memory, call->sequence);
    }
    free(call);
}

static int send_memory(struct tcd_memory *memory, tcd_executor_done done, void *arg, struct tcw_error *error)
{
    struct tcd_device *device = memory->client->device;
    struct tcd_ex_message message = {.opcode = TCD_EX_MEM, .client = memory->client->id, .value = memory->bytes, .handle = memory->handle};

    if (is_cuda(memory))
        message.memory = memory->how;
    memory->incarnation = device->incarnation;
    return tcd_device_request(device, &message, memory->fds, memory->fd_count, done, arg, error);
}

/* The memory is there: makes it known and then answers the client. */
static void introduce(struct tcd_memory *memory, uint32_t sequence)
{
    struct call *call = call_new(memory, sequence);
    struct tcw_error error;

    if (!call)
        tcd_error_set(&error, TCW_ENOMEM, "no memory for a request");
    if (call && !send_memory(memory, on_known, call, &error))
        return;
    free(call);
    memory_refuse(memory, sequence, &error);
}

void tcd_memories_ensure(struct tcd_client *client)
{
    struct tcd_link *at;
    struct tcw_error error;

    TCD_EACH (at, &client->memories) {
        struct tcd_memory *memory = TCD_ENTRY(at, struct tcd_memory, link);
        if (memory->made && memory->incarnation != client->device->incarnation && send_memory(memory, NULL, NULL, &error))
            tcd_client_log(client, TCD_WARNING, "memory %llu is unknown to the executor: %s", (unsigned long long)memory->handle,
                           error.text);
    }
}

/* ---- handlers ---- */

static void on_allocated(void *arg, const struct tcd_ex_message *answer, int fd)
{
    struct call *call = arg;
    struct tcd_memory *memory = tcd_handle_get(&call->daemon->memories, call->memory);
    struct tcw_error error;

    if (!memory) {
        /* The client has ended meanwhile, but not what it had caused. */
        if (fd >= 0)
            close(fd);
        call->device->memory_bytes -= call->charged;
        tcd_charge_end(call->account, call->charged);
    } else if (answer->code || fd < 0) {
        if (fd >= 0)
            close(fd);
        tcd_error_set(&error, answer->code ? answer->code : TCW_EINTERNAL, "%llu bytes on device %u: %.200s",
                      (unsigned long long)memory->bytes, memory->client->device->number, answer->text);
        memory_refuse(memory, call->sequence, &error);
    } else if (memory_take_fds(memory, &fd, 1)) {
        close(fd);
        tcd_error_set(&error, TCW_ENOMEM, "no memory for a memory object");
        memory_refuse(memory, call->sequence, &error);
    } else {
        memory->how = (struct tcw_mem_register){.bytes = memory->bytes, .kind = TCW_MEM_VMM, .piece_bytes = {memory->bytes}};
        introduce(memory, call->sequence);
    }
    free(call);
}

void tcd_memory_alloc(struct tcd_client *client, uint32_t sequence, const struct tcw_mem_alloc *alloc)
{
    struct tcw_error error;
    struct tcd_memory *memory = memory_create(client, alloc->bytes, false, 1, NULL, &error);
    struct tcd_ex_message message = {.opcode = TCD_EX_ALLOC, .client = client->id};
    struct call *call;

    if (!memory) {
        tcd_client_refuse(client, sequence, &error);
        return;
    }
    message.value = memory->bytes;
    call = call_new(memory, sequence);
    if (!call)
        tcd_error_set(&error, TCW_ENOMEM, "no memory for a request");
    if (call && !tcd_device_request(client->device, &message, NULL, 0, on_allocated, call, &error))
        return;
    free(call);
    memory_refuse(memory, sequence, &error);
}

static bool is_host_device(const void *arg, const struct tcd_device *device)
{
    (void)arg;
    return device->kind == TCF_DEVICE_HOST;
}

static bool is_cuda_device(const void *arg, const struct tcd_device *device)
{
    (void)arg;
    return device->kind == TCF_DEVICE_CUDA;
}

/* The range must lie in the allocations. What they really are, the executor finds out. */
static int check_pieces(const struct tcw_mem_register *message, unsigned fd_count, struct tcw_error *error)
{
    uint64_t bytes = 0;
    unsigned i;

    if (!fd_count || fd_count > TCW_MEM_MAX_FDS)
        return tcd_error_set(error, TCW_EINVAL, "VMM memory comes with 1 to %d descriptors, not %u", TCW_MEM_MAX_FDS, fd_count);
    for (i = 0; i < fd_count; i++) {
        if (!message->piece_bytes[i] || message->piece_bytes[i] > 1ull << 50)
            return tcd_error_set(error, TCW_EINVAL, "piece %u of %u has %llu bytes, allowed: 1 to 2^50", i, fd_count,
                                 (unsigned long long)message->piece_bytes[i]);
        bytes += message->piece_bytes[i];
    }
    if (message->offset >= message->piece_bytes[0] || message->bytes > bytes - message->offset)
        return tcd_error_set(error, TCW_EINVAL, "%llu bytes from offset %llu do not lie in %u pieces of %llu bytes",
                             (unsigned long long)message->bytes, (unsigned long long)message->offset, fd_count, (unsigned long long)bytes);
    return 0;
}

static int check_registration(const struct tcd_client *client, const struct tcw_mem_register *message, const int *fds, unsigned fd_count,
                              struct tcw_error *error)
{
    bool cuda = client->device ? client->device->kind == TCF_DEVICE_CUDA : message->kind != TCW_MEM_MEMFD;
    const char *why = "no descriptor";

    if (!cuda && message->kind != TCW_MEM_MEMFD)
        return tcd_error_set(error, TCW_ENOTSUP, "memory of kind %u: host devices take sealed memfds", message->kind);
    if (cuda && message->kind == TCW_MEM_MEMFD)
        return tcd_error_set(error, TCW_ENOTSUP, "a memfd: cuda devices take VMM descriptors and legacy handles of their own memory");
    if (message->kind == TCW_MEM_VMM)
        return check_pieces(message, fd_count, error);
    if (message->kind == TCW_MEM_IPC && message->offset > 1ull << 50)
        return tcd_error_set(error, TCW_EINVAL, "offset %llu, allowed: 0 to 2^50", (unsigned long long)message->offset);
    if (message->kind == TCW_MEM_MEMFD && (fd_count != 1 || tcw_memfd_check(fds[0], message->bytes, &why)))
        return tcd_error_set(error, TCW_EINVAL, "memory of %llu bytes: %s", (unsigned long long)message->bytes, why);
    return 0;
}

void tcd_memory_register(struct tcd_client *client, uint32_t sequence, const struct tcw_mem_register *message, int *fds, unsigned fd_count)
{
    bool cuda = message->kind != TCW_MEM_MEMFD;
    struct tcd_memory *memory;
    struct tcw_error error;

    if (check_registration(client, message, fds, fd_count, &error) ||
        !(memory = memory_create(client, message->bytes, true, fd_count ? fd_count : 1, cuda ? is_cuda_device : is_host_device, &error))) {
        tcd_client_refuse(client, sequence, &error);
        return;
    }
    /* Only whole pages are charged; what is mapped must not reach beyond the file. */
    memory->bytes = message->bytes;
    memory->how = *message;
    if (memory_take_fds(memory, fds, fd_count)) {
        tcd_error_set(&error, TCW_ENOMEM, "no memory for a memory object");
        memory_refuse(memory, sequence, &error);
        return;
    }
    introduce(memory, sequence);
}

static void on_reclaimed(void *arg)
{
    struct call *call = arg;
    struct tcd_client *client = tcd_handle_get(&call->daemon->clients, call->client);

    if (client)
        tcd_client_ok(client, call->sequence, 0);
    free(call);
}

/* No request uses it any more. */
static void on_freed(void *arg, const struct tcd_ex_message *answer, int fd)
{
    struct call *call = arg;
    struct tcd_client *client = tcd_handle_get(&call->daemon->clients, call->client);

    (void)answer;
    if (fd >= 0)
        close(fd);
    if (!call->registered) {
        tcd_reclaim(call->device, call->account, call->fd, call->charged, 0, on_reclaimed, call);
        return;
    }
    if (client)
        give_back(client, call->charged, true);
    on_reclaimed(call);
}

void tcd_memory_free(struct tcd_client *client, uint32_t sequence, const struct tcw_mem_free *message)
{
    struct tcd_memory *memory = tcd_handle_get(&client->daemon->memories, message->handle);
    struct tcd_ex_message drop = {.opcode = TCD_EX_MEM_DROP, .client = client->id, .handle = message->handle};
    struct tcw_error error;
    struct call *call;

    if (!memory || memory->client != client || !memory->known) {
        tcd_client_refuse_text(client, sequence, TCW_ENOENT, "this client has no memory %llu", (unsigned long long)message->handle);
        return;
    }
    call = call_new(memory, sequence);
    if (!call) {
        tcd_client_refuse_text(client, sequence, TCW_ENOMEM, "no memory for a request");
        return;
    }
    if (tcd_device_request(client->device, &drop, NULL, 0, on_freed, call, &error)) {
        free(call);
        tcd_client_refuse(client, sequence, &error);
        return;
    }
    if (!memory->registered) {
        tcd_charge_keep(&client->usage, client->account, memory->charged);
        call->fd = memory_give_fd(memory);
    }
    memory_drop(memory);
}

/* Memory that the daemon has made, or is making, outlives its client for a moment, and its charge too. */
static void memory_end(struct tcd_memory *memory)
{
    struct tcd_client *client = memory->client;

    tcd_charge_keep(&client->usage, client->account, memory->charged);
    if (!memory->made)
        return; /* on_allocated ends it */
    tcd_reclaim(client->device, client->account, memory_give_fd(memory), memory->charged, 0, NULL, NULL);
}

void tcd_memories_end(struct tcd_client *client)
{
    struct tcd_ex_message message = {.opcode = TCD_EX_CLIENT_GONE, .client = client->id};
    struct tcd_link *at, *safe;

    if (client->device)
        tcd_device_tell(client->device, &message);
    TCD_EACH_SAFE (at, safe, &client->memories) {
        struct tcd_memory *memory = TCD_ENTRY(at, struct tcd_memory, link);
        if (!memory->registered)
            memory_end(memory);
        memory_drop(memory);
    }
}
