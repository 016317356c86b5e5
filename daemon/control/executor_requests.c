#include "executor_requests.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int tcd_request_create(const struct tcd_ex_message *message, const int *fds, unsigned fd_count, tcd_executor_done done, void *arg,
                       struct tcd_request **out)
{
    struct tcd_request *request = calloc(1, sizeof *request + fd_count * sizeof(int));
    if (!request)
        return TCW_ENOMEM;
    request->message = *message;
    request->done = done;
    request->arg = arg;
    for (unsigned i = 0; i < fd_count; ++i) {
        int copy = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
        if (copy < 0) {
            tcd_request_drop(request);
            return TCW_EIO;
        }
        request->fds[request->fd_count++] = copy;
    }
    *out = request;
    return 0;
}

void tcd_request_close_fds(struct tcd_request *request)
{
    for (unsigned i = 0; i < request->fd_count; ++i)
        close(request->fds[i]);
    request->fd_count = 0;
}

void tcd_request_drop(struct tcd_request *request)
{
    tcd_request_close_fds(request);
    free(request);
}

/* The one place where callbacks run. */
void tcd_request_finish(struct tcd_request *request, const struct tcd_ex_message *answer, int fd)
{
    tcd_request_close_fds(request);
    if (request->done)
        request->done(request->arg, answer, fd);
    else if (fd >= 0)
        close(fd);
    free(request);
}

void tcd_request_fail(struct tcd_request *request, int code, const char *text)
{
    struct tcd_ex_message answer = {.opcode = TCD_EX_DONE, .code = code, .cookie = request->message.cookie};
    answer.attachment = request->message.attachment;
    answer.client = request->message.client;
    answer.handle = request->message.handle;
    snprintf(answer.text, sizeof answer.text, "%s", text);
    tcd_request_finish(request, &answer, -1);
}

void tcd_requests_reset(struct tcd_requests *list)
{
    list->first = NULL;
    list->last = &list->first;
}

void tcd_requests_append(struct tcd_requests *list, struct tcd_request *request)
{
    request->next = NULL;
    *list->last = request;
    list->last = &request->next;
}

struct tcd_request *tcd_requests_shift(struct tcd_requests *list)
{
    struct tcd_request *request = list->first;
    if (!request)
        return NULL;
    list->first = request->next;
    if (!list->first)
        list->last = &list->first;
    return request;
}

struct tcd_request *tcd_requests_take(struct tcd_requests *list, uint64_t cookie)
{
    for (struct tcd_request **at = &list->first; *at; at = &(*at)->next) {
        struct tcd_request *request = *at;
        if (request->message.cookie != cookie)
            continue;
        *at = request->next;
        if (!request->next)
            list->last = at;
        return request;
    }
    return NULL;
}

void tcd_requests_move(struct tcd_requests *to, struct tcd_requests *from)
{
    if (!from->first)
        return;
    *to->last = from->first;
    to->last = from->last;
    tcd_requests_reset(from);
}

void tcd_requests_fail(struct tcd_requests *list, int code, const char *text)
{
    struct tcd_requests failed;
    tcd_requests_reset(&failed);
    tcd_requests_move(&failed, list);
    struct tcd_request *request;
    while ((request = tcd_requests_shift(&failed)))
        tcd_request_fail(request, code, text);
}
