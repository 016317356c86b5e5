/*
 * Any bytes as a plan descriptor: check and compare never crash; what passes the check has buffer sizes that were computed
 * without overflow, by comparison with the same sums in 128 bits.
 */
#include <tcw/plan.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

__extension__ typedef unsigned __int128 wide;

static void require(bool condition)
{
    if (!condition)
        abort();
}

static wide extent_of(const struct tcw_plan_desc *desc, const struct tcw_tensor *tensor, uint32_t rank, uint64_t tokens)
{
    if (desc->flags & TCW_PLAN_SIZES)
        return desc->sizes[rank];
    return tokens ? tokens : tensor->extent;
}

/* Bytes of one list entry in `slot`, in numbers that cannot overflow. */
static wide tensor_bytes(const struct tcw_plan_desc *desc, const struct tcw_tensor *tensor, uint32_t nranks, uint32_t rank, uint64_t tokens,
                         unsigned slot)
{
    wide all = 0, unit = (wide)tensor->outer * tensor->inner;
    for (uint32_t i = 0; i < nranks; i++)
        all += extent_of(desc, tensor, i, tokens);
    wide own = extent_of(desc, tensor, rank, tokens), element = tcw_dtype_bytes(tensor->dtype);
    switch (desc->op) {
    case TCW_OP_ALL_GATHER:
        return (slot == TCW_SLOT_IN ? own : all) * unit * element;
    case TCW_OP_REDUCE_SCATTER:
        return (slot == TCW_SLOT_IN ? all : own) * unit * element;
    case TCW_OP_ALL_TO_ALL:
        return unit * element * (slot == TCW_SLOT_IN ? 1 : nranks);
    default:
        return slot == TCW_SLOT_IN && rank != desc->root ? 0 : unit * element;
    }
}

static void check_bytes(const struct tcw_plan_desc *desc, uint32_t nranks, uint64_t tokens)
{
    uint32_t rank = nranks - 1;
    for (unsigned slot = 0; slot < TCW_SLOT_COUNT; slot++) {
        uint32_t count = tcw_plan_slot_count(desc, nranks, slot);
        require(count <= TCW_MAX_REFS);
        require(tcw_plan_slot_bytes(desc, nranks, rank, tokens, slot, count) == 0);
        for (uint32_t i = 0; i < count; i++)
            require(tcw_plan_slot_bytes(desc, nranks, rank, tokens, slot, i) <= 1ull << 54);
    }
    if (tcw_op_has_tokens(desc->op)) {
        wide bytes = (wide)tokens * desc->hidden * tcw_dtype_bytes(desc->dtype);
        require(bytes == tcw_plan_slot_bytes(desc, nranks, rank, tokens, TCW_SLOT_IN, 0));
        return;
    }
    for (unsigned slot = TCW_SLOT_IN; slot <= TCW_SLOT_OUT; slot++) {
        uint32_t buffer = 0, per = desc->op == TCW_OP_ALL_TO_ALL && slot == TCW_SLOT_IN ? nranks : 1;
        for (uint32_t i = 0; i < desc->tensor_count; i++) {
            if (!desc->tensors[i].present)
                continue;
            wide bytes = tensor_bytes(desc, &desc->tensors[i], nranks, rank, tokens, slot);
            require(bytes == tcw_plan_slot_bytes(desc, nranks, rank, tokens, slot, buffer));
            buffer += per;
        }
        require(buffer == tcw_plan_slot_count(desc, nranks, slot));
    }
}

/* Byte 0: group size; then one descriptor, then as much of a second as there is. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tcw_plan_desc desc, other;
    struct tcw_complaint complaint = {0};
    if (size < 1)
        return 0;
    uint32_t nranks = data[0];
    data++, size--;
    memset(&desc, 0, sizeof(desc));
    memcpy(&desc, data, size < sizeof(desc) ? size : sizeof(desc));
    other = desc;
    if (size > sizeof(desc))
        memcpy(&other, data + sizeof(desc), size - sizeof(desc) < sizeof(other) ? size - sizeof(desc) : sizeof(other));
    int difference = tcw_plan_desc_compare(&desc, &other, &complaint);
    if (difference)
        require(complaint.field && complaint.mine != complaint.theirs && memchr(complaint.text, 0, sizeof(complaint.text)));
    int code = tcw_plan_desc_check(&desc, nranks, &complaint);
    if (code) {
        require((code == TCW_EINVAL || code == TCW_ENOSYS || code == TCW_ENOTSUP) && complaint.field && complaint.text[0]);
        return 0;
    }
    require(nranks >= 1 && nranks <= TCW_MAX_RANKS);
    const uint64_t tokens[] = {0, 1, desc.max_tokens, desc.tensors[0].extent, UINT64_MAX};
    for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++)
        if (tcw_plan_tokens_check(&desc, tokens[i], &complaint) == 0)
            check_bytes(&desc, nranks, tokens[i]);
    if (!difference)
        require(tcw_plan_desc_hash(&desc) == tcw_plan_desc_hash(&other) || memcmp(&desc, &other, sizeof(desc)) != 0);
    return 0;
}
