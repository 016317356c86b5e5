#include "multicast.h"

#include <tck/cuda_multicast.h>

int tcd_cuda_multicast(struct tcd_ex_engine *engine, const struct tcd_ex_message *message, const int *fds, int *object, char *text)
{
    switch (message->opcode) {
    case TCD_EX_MULTICAST:
        return tck_cuda_multicast_create(engine->device, message->value, message->nranks, object, text, TCW_TEXT_BYTES);
    case TCD_EX_MULTICAST_JOIN:
        return tck_cuda_multicast_join(engine->device, fds[0], text, TCW_TEXT_BYTES);
    default:
        return tck_cuda_multicast_bind(engine->device, fds[0], fds[1], message->value, text, TCW_TEXT_BYTES);
    }
}
