/* tcw_message_check: a good message of every kind passes, and each kind of lie is refused with a reason. */
#include "cmocka_all.h"

#include <tcw/message.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static struct tcw_header header_of(unsigned opcode, unsigned fds)
{
    struct tcw_header header = {.magic = TCW_MESSAGE_MAGIC, .length = tcw_message_bytes(opcode), .opcode = (uint16_t)opcode};
    header.fd_count = (uint16_t)fds;
    return header;
}

/* A payload that is in order for this opcode. */
static union tcw_payload good_payload(unsigned opcode)
{
    union tcw_payload payload;
    memset(&payload, 0, sizeof(payload));
    switch (opcode) {
    case TCW_MSG_ERROR:
    case TCW_MSG_GOODBYE:
        payload.ERROR.code = TCW_EINVAL;
        break;
    case TCW_MSG_GROUP_READY:
        payload.GROUP_READY.size = 4;
        payload.GROUP_READY.rank = 3;
        break;
    case TCW_MSG_GROUP_REPORT:
        payload.GROUP_REPORT.code = TCW_ETIMEOUT;
        break;
    case TCW_MSG_GROUP_BROKEN:
        payload.GROUP_BROKEN.error.code = TCW_EPEERDEAD;
        break;
    case TCW_MSG_PLAN_READY:
        payload.PLAN_READY.decision.step_count = 1;
        break;
    default:
        break;
    }
    return payload;
}

static int check(const struct tcw_header *header, const union tcw_payload *payload, size_t bytes, unsigned fds)
{
    const char *why = NULL;
    int code = tcw_message_check(header, payload, bytes, fds, &why);
    if (code)
        assert_true(why && why[0]);
    return code;
}

static void refuse(const char *what, const struct tcw_header *header, const union tcw_payload *payload, size_t bytes, unsigned fds)
{
    if (check(header, payload, bytes, fds) != TCW_EPROTO)
        fail_msg("accepted: %s in %s", what, tcw_message_name(header->opcode));
}

static void test_good_messages(void **state)
{
    (void)state;
    unsigned known = 0;
    for (unsigned opcode = 0; opcode < 100; opcode++) {
        if (!tcw_message_bytes(opcode))
            continue;
        struct tcw_header header = header_of(opcode, 0);
        union tcw_payload payload = good_payload(opcode);
        assert_int_equal(check(&header, &payload, sizeof(header) + header.length, 0), 0);
        assert_non_null(tcw_message_name(opcode));
        known++;
    }
    assert_int_equal(known, 22);
    assert_int_equal(tcw_message_bytes(0), 0);
    assert_int_equal(tcw_message_bytes(23), 0);
    assert_int_equal(tcw_message_bytes(0xffffffffu), 0);
}

static void test_header_lies(void **state)
{
    (void)state;
    for (unsigned opcode = 1; opcode < TCW_MESSAGE_COUNT; opcode++) {
        const struct tcw_header good = header_of(opcode, 0);
        union tcw_payload payload = good_payload(opcode);
        size_t bytes = sizeof(good) + good.length;
        struct tcw_header header = good;
        header.magic++;
        refuse("wrong magic", &header, &payload, bytes, 0);
        header = good;
        header.length++;
        refuse("length one too long", &header, &payload, bytes, 0);
        refuse("length and packet one too long", &header, &payload, bytes + 1, 0);
        header.length = good.length - 1;
        refuse("length one too short", &header, &payload, bytes, 0);
        refuse("length and packet one too short", &header, &payload, bytes - 1, 0);
        header.length = 0xffffffffu;
        refuse("huge length", &header, &payload, bytes, 0);
        header = good;
        refuse("packet cut", &header, &payload, bytes - 1, 0);
        refuse("no payload", &header, &payload, sizeof(header), 0);
        refuse("half a header", &header, &payload, sizeof(header) / 2, 0);
        refuse("nothing", &header, &payload, 0, 0);
        refuse("packet longer than the message", &header, &payload, bytes + 1, 0);
        header.reserved = 1;
        refuse("reserved bits", &header, &payload, bytes, 0);
        header = good;
        header.opcode = TCW_MESSAGE_COUNT;
        refuse("unknown opcode", &header, &payload, bytes, 0);
        header.opcode = 0;
        refuse("opcode 0", &header, &payload, bytes, 0);
        header.opcode = 0xffff;
        refuse("largest opcode", &header, &payload, bytes, 0);
        header = good;
        header.fd_count = 1;
        refuse("announces a descriptor that did not come", &header, &payload, bytes, 0);
        header.fd_count = 0;
        refuse("brings a descriptor that was not announced", &header, &payload, bytes, 1);
        header.fd_count = 0xffff;
        refuse("announces 65535 descriptors", &header, &payload, bytes, 0xffff);
    }
}

static void test_descriptor_counts(void **state)
{
    (void)state;
    for (unsigned opcode = 1; opcode < TCW_MESSAGE_COUNT; opcode++) {
        unsigned most = 0;
        if (opcode == TCW_MSG_GROUP_READY || opcode == TCW_MSG_MEM_REGISTER || opcode == TCW_MSG_MEM_READY)
            most = 1;
        if (opcode == TCW_MSG_PLAN_READY)
            most = TCW_MAX_RANKS + 3;
        union tcw_payload payload = good_payload(opcode);
        struct tcw_header header = header_of(opcode, most);
        assert_int_equal(check(&header, &payload, sizeof(header) + header.length, most), 0);
        header.fd_count++;
        refuse("one descriptor too many", &header, &payload, sizeof(header) + header.length, most + 1);
    }
}

static void test_unterminated_texts(void **state)
{
    (void)state;
    static const struct {
        unsigned opcode;
        const char *what;
        size_t offset, size;
    } texts[] = {
#define TEXT(OPCODE, field)                                                                                                                \
    {TCW_MSG_##OPCODE, #OPCODE "." #field, offsetof(union tcw_payload, OPCODE.field), sizeof(((union tcw_payload *)0)->OPCODE.field)}
        TEXT(HELLO, name),
        TEXT(HELLO_OK, version),
        TEXT(ERROR, field),
        TEXT(ERROR, text),
        TEXT(GOODBYE, field),
        TEXT(GOODBYE, text),
        TEXT(GROUP_JOIN, name),
        TEXT(GROUP_ABORT, reason),
        TEXT(GROUP_REPORT, text),
        TEXT(GROUP_BROKEN, error.field),
        TEXT(GROUP_BROKEN, error.text),
        TEXT(PLAN_READY, reason),
        TEXT(ADMIN, group),
#undef TEXT
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct tcw_header header = header_of(texts[i].opcode, 0);
        union tcw_payload payload = good_payload(texts[i].opcode);
        unsigned char *text = (unsigned char *)&payload + texts[i].offset;
        memset(text, 'x', texts[i].size - 1);
        assert_int_equal(check(&header, &payload, sizeof(header) + header.length, 0), 0);
        text[texts[i].size - 1] = 'x';
        refuse(texts[i].what, &header, &payload, sizeof(header) + header.length, 0);
    }
}

#define REFUSE(OPCODE, change)                                                                                                             \
    do {                                                                                                                                   \
        struct tcw_header header = header_of(TCW_MSG_##OPCODE, 0);                                                                         \
        union tcw_payload payload = good_payload(TCW_MSG_##OPCODE);                                                                        \
        payload.OPCODE.change;                                                                                                             \
        refuse(#OPCODE "." #change, &header, &payload, sizeof(header) + header.length, 0);                                                 \
    } while (0)

static void test_field_lies(void **state)
{
    (void)state;
    REFUSE(HELLO, role = 2);
    REFUSE(HELLO, role = 0xffffffffu);
    REFUSE(HELLO_OK, reserved = 1);
    REFUSE(ERROR, code = 0);
    REFUSE(ERROR, code = 1);
    REFUSE(GOODBYE, code = 0);
    REFUSE(GROUP_JOIN, flags = 1);
    REFUSE(GROUP_JOIN, flags = 0x80000000u);
    REFUSE(GROUP_READY, size = 0);
    REFUSE(GROUP_READY, size = TCW_MAX_RANKS + 1);
    REFUSE(GROUP_READY, rank = 4);
    REFUSE(GROUP_READY, rank = 0xffffffffu);
    REFUSE(GROUP_REFORM, flags = 2);
    REFUSE(GROUP_REFORM, flags = 0xffffffffu);
    REFUSE(GROUP_REPORT, code = 0);
    REFUSE(GROUP_REPORT, code = 4);
    REFUSE(GROUP_BROKEN, error.code = 0);
    REFUSE(PLAN_CREATE, desc.dtype = TCW_DTYPE_COUNT);
    REFUSE(PLAN_CREATE, desc.strategy = TCW_STRATEGY_COUNT);
    REFUSE(PLAN_CREATE, desc.fusion = TCW_FUSION_COUNT);
    REFUSE(PLAN_CREATE, desc.redop = TCW_REDOP_COUNT);
    REFUSE(PLAN_CREATE, desc.lane = TCW_LANE_COUNT);
    REFUSE(PLAN_CREATE, desc.tensor_count = TCW_MAX_TENSORS + 1);
    REFUSE(PLAN_CREATE, desc.tensor_count = 0xffffffffu);
    REFUSE(PLAN_READY, decision.step_count = 0);
    REFUSE(PLAN_READY, decision.step_count = TCW_MAX_DECISION_STEPS + 1);
    REFUSE(PLAN_READY, workspace_fds = TCW_MAX_RANKS + 1);
    REFUSE(MEM_ALLOC, flags = 1);
    REFUSE(MEM_ALLOC, reserved = 1);
    REFUSE(MEM_REGISTER, flags = 1);
    REFUSE(MEM_REGISTER, kind = TCW_MEM_KIND_COUNT);
    REFUSE(ADMIN, desc.dtype = TCW_DTYPE_COUNT);
    REFUSE(ADMIN, desc.tensor_count = TCW_MAX_TENSORS + 1);
    REFUSE(ADMIN_TEXT, bytes = 8193);
}

static void test_text_set(void **state)
{
    char text[8];
    (void)state;
    memset(text, 'z', sizeof(text));
    tcw_text_set(text, sizeof(text), "abc");
    assert_memory_equal(text, "abc\0\0\0\0\0", 8);
    tcw_text_set(text, sizeof(text), "abcdefghijk");
    assert_memory_equal(text, "abcdefg\0", 8);
    tcw_text_set(text, sizeof(text), "");
    assert_memory_equal(text, "\0\0\0\0\0\0\0\0", 8);
}

/* The numbers of the contract: a change of any of them is a change of the ABI and must be deliberate. */
static void test_numbers_do_not_move(void **state)
{
    (void)state;
    assert_int_equal(sizeof(struct tcw_hello), 88);
    assert_int_equal(sizeof(struct tcw_error), 360);
    assert_int_equal(sizeof(struct tcw_plan_desc), 1072);
    assert_int_equal(sizeof(struct tcw_plan_create), 1088);
    assert_int_equal(sizeof(struct tcw_tensor), 32);
    assert_int_equal(TCW_MSG_HELLO, 1);
    assert_int_equal(TCW_MSG_PLAN_CREATE, 12);
    assert_int_equal(TCW_MSG_GOODBYE, 22);
    assert_int_equal(TCW_EINVAL, -1);
    assert_int_equal(TCW_EPEERDEAD, -6);
    assert_int_equal(TCW_EINTERNAL, -25);
    assert_string_equal(tcw_error_name(TCW_EPEERDEAD), "EPEERDEAD");
    assert_string_equal(tcw_error_name(0), "OK");
    assert_null(tcw_error_name(-26));
    assert_null(tcw_error_name(1));
    assert_string_equal(tcw_op_name(TCW_OP_ALL_TO_ALL), "all-to-all");
    assert_null(tcw_op_name(TCW_OP_COUNT));
    assert_null(tcw_fusion_name(2));
    assert_null(tcw_fusion_name(3));
    static const size_t bytes[] = {4, 2, 2, 8, 1, 1, 4, 4, 8, 8, 1, 1};
    for (unsigned i = 0; i < TCW_DTYPE_COUNT; i++) {
        assert_int_equal(tcw_dtype_bytes(i), bytes[i]);
        assert_non_null(tcw_dtype_name(i));
    }
    assert_int_equal(tcw_dtype_bytes(TCW_DTYPE_COUNT), 0);
    assert_null(tcw_dtype_name(TCW_DTYPE_COUNT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_messages),       cmocka_unit_test(test_header_lies), cmocka_unit_test(test_descriptor_counts),
        cmocka_unit_test(test_unterminated_texts),  cmocka_unit_test(test_field_lies),  cmocka_unit_test(test_text_set),
        cmocka_unit_test(test_numbers_do_not_move),
    };
    return cmocka_run_group_tests_name("messages", tests, NULL, NULL);
}
