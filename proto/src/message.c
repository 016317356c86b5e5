/* Is a received packet well formed? Everything that can be judged without knowing the receiver's state is judged here. */
#include <tcw/message.h>

#include <stdbool.h>
#include <string.h>

static const uint32_t payload_bytes[] = {
#define TCW_MESSAGE(number, NAME, payload, name) [number] = sizeof(struct payload),
#include <tcw/messages.def>
#undef TCW_MESSAGE
};

uint32_t tcw_message_bytes(unsigned opcode)
{
    return opcode < sizeof(payload_bytes) / sizeof(payload_bytes[0]) ? payload_bytes[opcode] : 0;
}

/* How many descriptors a message may carry. */
static unsigned fds_most(unsigned opcode, const union tcw_payload *payload)
{
    switch (opcode) {
    case TCW_MSG_GROUP_READY:
    case TCW_MSG_MEM_READY:
        return 1;
    case TCW_MSG_MEM_REGISTER:
        return payload->MEM_REGISTER.kind == TCW_MEM_VMM ? TCW_MEM_MAX_FDS : payload->MEM_REGISTER.kind == TCW_MEM_MEMFD ? 1 : 0;
    case TCW_MSG_PLAN_READY:
        return TCW_MAX_RANKS + 3;
    default:
        return 0;
    }
}

static bool text_ends(const char *text, size_t size)
{
    return memchr(text, 0, size) != NULL;
}

#define TEXT_ENDS(array) text_ends(array, sizeof(array))

/* Enumerations must be printable and switchable before anyone looks at them; the meaning is tcw_plan_desc_check's. */
static bool desc_in_range(const struct tcw_plan_desc *desc)
{
    return desc->dtype < TCW_DTYPE_COUNT && desc->strategy < TCW_STRATEGY_COUNT && desc->fusion < TCW_FUSION_COUNT &&
           desc->redop < TCW_REDOP_COUNT && desc->lane < TCW_LANE_COUNT && desc->tensor_count <= TCW_MAX_TENSORS;
}

static const char *register_fault(const struct tcw_mem_register *payload)
{
    if (payload->flags & ~(unsigned)TCW_MEM_FLAGS_KNOWN)
        return "unknown memory flags";
    return payload->kind < TCW_MEM_KIND_COUNT ? NULL : "unknown kind of memory";
}

static const char *payload_fault(unsigned opcode, const union tcw_payload *payload)
{
    switch (opcode) {
    case TCW_MSG_HELLO:
        if (!TEXT_ENDS(payload->HELLO.name))
            return "the client's name is not terminated";
        return payload->HELLO.role > 1 ? "unknown role" : NULL;
    case TCW_MSG_HELLO_OK:
        return TEXT_ENDS(payload->HELLO_OK.version) && !payload->HELLO_OK.reserved ? NULL : "malformed hello answer";
    case TCW_MSG_ERROR:
    case TCW_MSG_GOODBYE:
        return TEXT_ENDS(payload->ERROR.field) && TEXT_ENDS(payload->ERROR.text) && payload->ERROR.code < 0 ? NULL : "malformed error";
    case TCW_MSG_GROUP_JOIN:
        if (!TEXT_ENDS(payload->GROUP_JOIN.name))
            return "the group's name is not terminated";
        return payload->GROUP_JOIN.flags & ~(unsigned)TCW_JOIN_FLAGS_KNOWN ? "unknown join flags" : NULL;
    case TCW_MSG_GROUP_READY:
        return payload->GROUP_READY.size && payload->GROUP_READY.size <= TCW_MAX_RANKS &&
                       payload->GROUP_READY.rank < payload->GROUP_READY.size
                   ? NULL
                   : "rank or size out of range";
    case TCW_MSG_GROUP_REFORM:
        return payload->GROUP_REFORM.flags & ~(unsigned)TCW_REFORM_FLAGS_KNOWN ? "unknown reform flags" : NULL;
    case TCW_MSG_GROUP_ABORT:
        return TEXT_ENDS(payload->GROUP_ABORT.reason) ? NULL : "the reason is not terminated";
    case TCW_MSG_GROUP_REPORT:
        return TEXT_ENDS(payload->GROUP_REPORT.text) && payload->GROUP_REPORT.code < 0 ? NULL : "malformed report";
    case TCW_MSG_GROUP_BROKEN:
        return TEXT_ENDS(payload->GROUP_BROKEN.error.field) && TEXT_ENDS(payload->GROUP_BROKEN.error.text) &&
                       payload->GROUP_BROKEN.error.code < 0
                   ? NULL
                   : "malformed announcement";
    case TCW_MSG_PLAN_CREATE:
        return desc_in_range(&payload->PLAN_CREATE.desc) ? NULL : "a plan descriptor with an enumeration out of range";
    case TCW_MSG_PLAN_READY:
        return TEXT_ENDS(payload->PLAN_READY.reason) && payload->PLAN_READY.decision.step_count >= 1 &&
                       payload->PLAN_READY.decision.step_count <= TCW_MAX_DECISION_STEPS &&
                       payload->PLAN_READY.workspace_fds <= TCW_MAX_RANKS
                   ? NULL
                   : "malformed plan answer";
    case TCW_MSG_MEM_ALLOC:
        return payload->MEM_ALLOC.flags & ~(unsigned)TCW_MEM_FLAGS_KNOWN || payload->MEM_ALLOC.reserved ? "unknown memory flags" : NULL;
    case TCW_MSG_MEM_REGISTER:
        return register_fault(&payload->MEM_REGISTER);
    case TCW_MSG_ADMIN:
        if (!TEXT_ENDS(payload->ADMIN.group))
            return "the group's name is not terminated";
        return desc_in_range(&payload->ADMIN.desc) ? NULL : "a plan descriptor with an enumeration out of range";
    case TCW_MSG_ADMIN_TEXT:
        return payload->ADMIN_TEXT.bytes <= sizeof(payload->ADMIN_TEXT.text) ? NULL : "more text than fits";
    default:
        return NULL;
    }
}

int tcw_message_check(const struct tcw_header *header, const union tcw_payload *payload, size_t bytes, unsigned received_fds,
                      const char **why)
{
    const char *fault = NULL;

    if (bytes < sizeof(*header))
        fault = "shorter than a message header";
    else if (header->magic != TCW_MESSAGE_MAGIC)
        fault = "not a trtcoll message (wrong magic)";
    else if (!tcw_message_bytes(header->opcode))
        fault = "unknown message";
    else if (header->length != tcw_message_bytes(header->opcode) || bytes != sizeof(*header) + header->length)
        fault = "wrong length for this message";
    else if (header->reserved)
        fault = "a reserved header field is not zero";
    else if (header->fd_count != received_fds)
        fault = "the announced number of descriptors did not arrive";
    else if (received_fds > fds_most(header->opcode, payload))
        fault = "more descriptors than this message carries";
    else
        fault = payload_fault(header->opcode, payload);
    if (!fault)
        return 0;
    *why = fault;
    return TCW_EPROTO;
}
