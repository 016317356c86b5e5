/* Reading one configuration: what is accepted, and the exact place and words of every complaint. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <tcf/config.h>

static struct tcf_config *parse(const char *text, struct tcf_issues *issues)
{
    *issues = (struct tcf_issues){0};
    return tcf_config_parse("t.json", text, strlen(text), issues);
}

static struct tcf_config *parse_good(const char *text)
{
    struct tcf_issues issues;
    struct tcf_config *config = parse(text, &issues);
    if (!config) {
        tcf_issues_print(&issues, stderr);
        tcf_issues_free(&issues);
        fail_msg("refused: %s", text);
    }
    assert_int_equal(issues.count, 0);
    assert_null(issues.items);
    return config;
}

static void defaults_come_from_the_table(void **state)
{
    (void)state;
    struct tcf_config *config = parse_good("{\"devices\": {\"host\": 4}}");
#define TCF_U64(member, path, min, max, def, unit, reload, help)    assert_true(config->options.member == (uint64_t)(def));
#define TCF_POWER(member, path, min, max, def, unit, reload, help)  assert_true(config->options.member == (uint64_t)(def));
#define TCF_MODE(member, path, def, reload, help)                   assert_true(config->options.member == (uint64_t)(def));
#define TCF_BOOL(member, path, def, reload, help)                   assert_true(config->options.member == (def));
#define TCF_STRING(member, path, bytes, def, reload, help)          assert_string_equal(config->options.member, def);
#define TCF_CHOICE(member, path, bytes, choices, def, reload, help) assert_string_equal(config->options.member, def);
#include <tcf/options.def>
#undef TCF_U64
#undef TCF_POWER
#undef TCF_MODE
#undef TCF_BOOL
#undef TCF_STRING
#undef TCF_CHOICE
    assert_int_equal(config->node_count, 1);
    assert_int_equal(config->nodes[0].device_count, 4);
    assert_int_equal(config->nodes[0].devices[3].number, 3);
    assert_int_equal(config->nodes[0].devices[3].kind, TCF_DEVICE_HOST);
    assert_int_equal(config->group_count, 0);
    assert_int_equal(config->access.uid_count, 0);
    assert_non_null(tcf_config_device(config, 3));
    assert_null(tcf_config_device(config, 4));
    assert_null(tcf_config_group(config, "tp"));
    tcf_config_free(config);
}

static void values_are_read(void **state)
{
    (void)state;
    struct tcf_config *config =
        parse_good("{\"node\":\"b\",\"socket_mode\":\"0600\",\"multicast\":true,\"log_level\":\"debug\",\"runtime_dir\":\"/run/x\","
                   "\"ring\":{\"entries\":64,\"spin_us\":0},\"limits\":{\"client\":{\"bytes\":0,\"plans\":1e3},"
                   "\"uid\":{\"bytes\":1125899906842624}},"
                   "\"nodes\":[{\"name\":\"a\",\"devices\":{\"cuda\":2}},"
                   "{\"name\":\"b\",\"address\":\"[fd00::1]:7000\",\"devices\":[{\"number\":7,\"kind\":\"cuda\",\"uuid\":\"GPU-1\"},"
                   "{\"number\":2,\"kind\":\"cuda\",\"uuid\":\"GPU-2\"},{\"number\":3,\"kind\":\"cuda\"}]}],"
                   "\"groups\":[{\"name\":\"tp/0\",\"ranks\":[7,{\"device\":2},{\"node\":\"a\",\"device\":1},3],"
                   "\"deadline_ms\":250,\"lane\":\"served\",\"strategy\":\"twoshot\",\"access\":{\"uids\":[\"root\",7],\"gids\":[0]}}],"
                   "\"access\":{\"uids\":[1000]},\"admin\":{\"gids\":[5]}}");
    const struct tcf_options *options = &config->options;
    assert_int_equal(config->local_node, 1);
    assert_int_equal(options->socket_mode, 0600);
    assert_true(options->multicast);
    assert_string_equal(options->log_level, "debug");
    assert_string_equal(options->runtime_dir, "/run/x");
    assert_int_equal(options->ring_entries, 64);
    assert_int_equal(options->spin_us, 0);
    assert_int_equal(options->client_bytes, 0);
    assert_int_equal(options->client_plans, 1000);
    assert_true(options->uid_bytes == 1ull << 50);
    assert_string_equal(config->nodes[1].address, "[fd00::1]:7000");
    assert_string_equal(tcf_config_device(config, 7)->uuid, "GPU-1");
    assert_int_equal(tcf_config_device(config, 7)->kind, TCF_DEVICE_CUDA);

    const struct tcf_group *group = tcf_config_group(config, "tp/0");
    assert_non_null(group);
    assert_int_equal(group->size, 4);
    assert_int_equal(group->ranks[0].node, 1);
    assert_int_equal(group->ranks[0].device, 7);
    assert_int_equal(group->ranks[1].node, 1);
    assert_int_equal(group->ranks[2].node, 0);
    assert_int_equal(group->ranks[2].device, 1);
    assert_int_equal(group->ranks[3].device, 3);
    assert_true(group->deadline_ns == 250000000);
    assert_int_equal(group->lane, TCW_LANE_SERVED);
    assert_int_equal(group->strategy, TCW_STRATEGY_TWOSHOT);
    assert_int_equal(group->access.uid_count, 2);
    assert_int_equal(group->access.uids[0], 0);
    assert_int_equal(group->access.uids[1], 7);
    assert_int_equal(group->access.gids[0], 0);
    assert_int_equal(config->access.uids[0], 1000);
    assert_int_equal(config->admin.gids[0], 5);
    tcf_config_free(config);
}

static void host_name_chooses_the_node(void **state)
{
    (void)state;
    char host[256] = "", text[700];
    assert_int_equal(gethostname(host, sizeof(host) - 1), 0);
    snprintf(text, sizeof(text), "{\"nodes\":[{\"name\":\"another\",\"devices\":{\"host\":1}},{\"name\":\"%s\",\"devices\":{\"host\":1}}]}",
             host);
    struct tcf_config *config = parse_good(text);
    assert_int_equal(config->local_node, 1);
    tcf_config_free(config);

    config = parse_good("{\"nodes\":[{\"name\":\"only\",\"devices\":{\"host\":1}}]}");
    assert_int_equal(config->local_node, 0);
    tcf_config_free(config);
    config = parse_good("{\"node\":\"me\",\"devices\":{\"host\":1}}");
    assert_string_equal(config->nodes[0].name, "me");
    tcf_config_free(config);
}

/* ---- complaints: exactly these, in this order ---- */

enum { MOST = 6 };

struct bad {
    const char *text;
    struct {
        const char *pointer, *text;
    } issues[MOST];
};

#define D "\"devices\":{\"host\":4}"
#define ROOT_KEYS                                                                                                                          \
    "$schema, access, admin, devices, groups, nodes, runtime_dir, socket_group, socket_mode, node, log_level, multicast, limits, "         \
    "deadlines, "                                                                                                                          \
    "ring, executor, choosing"

static const struct bad syntax_errors[] = {
    {"", {{"", "line 1, column 1: found the end of the text, allowed a JSON value"}}},
    {"  \n", {{"", "line 2, column 1: found the end of the text, allowed a JSON value"}}},
    {"{", {{"", "line 1, column 2: found the end of the text, allowed a member name in quotes"}}},
    {"{" D ",}", {{"", "line 1, column 23: found '}', allowed a member name in quotes"}}},
    {"{" D "\n \"a\":1}", {{"", "line 2, column 2: found '\"', allowed ',' or '}'"}}},
    {"{\"a\" 1}", {{"", "line 1, column 6: found '1', allowed ':' after a member name"}}},
    {"{a:1}", {{"", "line 1, column 2: found 'a', allowed a member name in quotes"}}},
    {"{\"a\":[1,2}", {{"", "line 1, column 10: found '}', allowed ',' or ']'"}}},
    {"{\"a\":[1,]}", {{"", "line 1, column 9: found ']', allowed a JSON value"}}},
    {"{\"a\":01}", {{"", "line 1, column 7: found '1', allowed ',' or '}'"}}},
    {"{\"a\":1.}", {{"", "line 1, column 8: found '}', allowed a digit"}}},
    {"{\"a\":-}", {{"", "line 1, column 7: found '}', allowed a digit"}}},
    {"{\"a\":1e+}", {{"", "line 1, column 9: found '}', allowed a digit"}}},
    {"{\"a\":+1}", {{"", "line 1, column 6: found '+', allowed a JSON value"}}},
    {"{\"a\":tru}", {{"", "line 1, column 6: found 't', allowed a JSON value"}}},
    {"{\"a\":NaN}", {{"", "line 1, column 6: found 'N', allowed a JSON value"}}},
    {"{\"a\":\"b\nc\"}",
     {{"", "line 1, column 8: found the end of the line, allowed a closing quote (control characters need an escape)"}}},
    {"{\"a\":\"b", {{"", "line 1, column 8: found the end of the text, allowed a closing quote (control characters need an escape)"}}},
    {"{\"a\":\"\\x\"}", {{"", "line 1, column 8: found 'x', allowed one of \" \\ / b f n r t u after a backslash"}}},
    {"{\"a\":\"\\u00g0\"}", {{"", "line 1, column 11: found 'g', allowed four hexadecimal digits after \\u"}}},
    {"{\"a\":\"\\u0000\"}", {{"", "line 1, column 9: found '0', allowed the code of a character other than NUL"}}},
    {"{\"a\":\"\\ud800x\"}", {{"", "line 1, column 13: found 'x', allowed the second half of a surrogate pair"}}},
    {"{\"a\":\"\\ud800\\u0041\"}", {{"", "line 1, column 9: found 'd', allowed the code of a character other than NUL"}}},
    {"{\"a\":\"\\udc00\"}", {{"", "line 1, column 9: found 'd', allowed the code of a character other than NUL"}}},
    {"{\"a\":\"\xff\"}", {{"", "line 1, column 7: found byte 0xff, allowed UTF-8 text"}}},
    {"{\"a\":\"\xc3\xa4\xc0\xaf\"}", {{"", "line 1, column 8: found byte 0xc0, allowed UTF-8 text"}}},
    {"{\"a\":\"\xed\xa0\x80\"}", {{"", "line 1, column 7: found byte 0xed, allowed UTF-8 text"}}},
    {"{\"a\":\"\xe0\x80\x80\"}", {{"", "line 1, column 7: found byte 0xe0, allowed UTF-8 text"}}},
    {"{\"a\":\"\xf4\x90\x80\x80\"}", {{"", "line 1, column 7: found byte 0xf4, allowed UTF-8 text"}}},
    {"{" D "} x", {{"", "line 1, column 24: found 'x', allowed nothing after the first JSON value"}}},
    {"{" D "} // x", {{"", "line 1, column 24: found '/', allowed nothing after the first JSON value"}}},
    {"\xef\xbb\xbf{}", {{"", "line 1, column 1: found byte 0xef, allowed a JSON value"}}},
    {"{\"a\":11111111112222222222333333333344444444445}", {{"", "line 1, column 6: found '1', allowed a number of at most 40 characters"}}},
    {"{\"a\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}",
     {{"", "line 1, column 21: found '[', allowed at most 16 objects or arrays inside each other"}}},
    {"[]", {{"", "found an array of 0, allowed an object"}}},
    {"null", {{"", "found null, allowed an object"}}},
};

static const struct bad value_errors[] = {
    {"{}", {{"", "found neither \"devices\" nor \"nodes\", one must be there"}}},
    {"{" D ",\"grops\":[]}", {{"/grops", "found an unknown key, did you mean \"groups\"? Allowed: " ROOT_KEYS}}},
    {"{" D ",\"a/b~c\":1}", {{"/a~1b~0c", "found an unknown key, allowed: " ROOT_KEYS}}},
    {"{" D ",\"a\\nb\":1}", {{"/a?b", "found an unknown key, allowed: " ROOT_KEYS}}},
    {"{" D ",\"Limits\":{}}", {{"/Limits", "found an unknown key, did you mean \"limits\"? Allowed: " ROOT_KEYS}}},
    {"{" D ",\"limits.max_clients\":1}", {{"/limits.max_clients", "found an unknown key, allowed: " ROOT_KEYS}}},
    {"{" D ",\"limits\":{\"clients\":{}}}",
     {{"/limits/clients", "found an unknown key, did you mean \"client\"? Allowed: max_clients, client, uid, workspace_bytes"}}},
    {"{" D ",\"limits\":{\"uid\":{\"bytes\":-1}}}",
     {{"/limits/uid/bytes", "found -1, allowed an integer from 0 to 1125899906842624 bytes"}}},
    {"{" D ",\"limits\":3}", {{"/limits", "found 3, allowed an object"}}},
    {"{" D ",\"limits\":{\"max_clients\":0}}", {{"/limits/max_clients", "found 0, allowed an integer from 1 to 65536 clients"}}},
    {"{" D ",\"limits\":{\"max_clients\":65537}}", {{"/limits/max_clients", "found 65537, allowed an integer from 1 to 65536 clients"}}},
    {"{" D ",\"limits\":{\"max_clients\":1.5}}", {{"/limits/max_clients", "found 1.5, allowed an integer from 1 to 65536 clients"}}},
    {"{" D ",\"limits\":{\"max_clients\":\"8\"}}", {{"/limits/max_clients", "found \"8\", allowed an integer from 1 to 65536 clients"}}},
    {"{" D ",\"limits\":{\"max_clients\":null}}", {{"/limits/max_clients", "found null, allowed an integer from 1 to 65536 clients"}}},
    {"{" D ",\"limits\":{\"max_clients\":1e999}}", {{"/limits/max_clients", "found inf, allowed an integer from 1 to 65536 clients"}}},
    {"{" D ",\"limits\":{\"client\":{\"plans\":65536}}}",
     {{"/limits/client/plans", "found 65536, allowed at most limits.uid.plans, which is 16384"}}},
    {"{" D ",\"limits\":{\"client\":{\"groups\":9},\"uid\":{\"groups\":8}}}",
     {{"/limits/uid/groups", "found 8, allowed at least limits.client.groups, which is 9"}}},
    {"{" D ",\"limits\":{\"uid\":{\"in_flight\":8}}}",
     {{"/limits/uid/in_flight", "found 8, allowed at least limits.client.in_flight, which is 1024"}}},
    {"{" D ",\"ring\":{\"entries\":100}}", {{"/ring/entries", "found 100, allowed a power of two from 8 to 4096 entries"}}},
    {"{" D ",\"ring\":{\"entries\":4}}", {{"/ring/entries", "found 4, allowed a power of two from 8 to 4096 entries"}}},
    {"{" D ",\"socket_mode\":660}", {{"/socket_mode", "found 660, allowed a string of octal digits from \"0000\" to \"0777\""}}},
    {"{" D ",\"socket_mode\":\"1777\"}", {{"/socket_mode", "found \"1777\", allowed a string of octal digits from \"0000\" to \"0777\""}}},
    {"{" D ",\"socket_mode\":\"0888\"}", {{"/socket_mode", "found \"0888\", allowed a string of octal digits from \"0000\" to \"0777\""}}},
    {"{" D ",\"socket_mode\":\"-77\"}", {{"/socket_mode", "found \"-77\", allowed a string of octal digits from \"0000\" to \"0777\""}}},
    {"{" D ",\"log_level\":\"verbose\"}", {{"/log_level", "found \"verbose\", allowed one of err|warning|notice|info|debug"}}},
    {"{" D ",\"log_level\":\"\"}", {{"/log_level", "found \"\", allowed one of err|warning|notice|info|debug"}}},
    {"{" D ",\"multicast\":1}", {{"/multicast", "found 1, allowed true or false"}}},
    {"{" D ",\"runtime_dir\":\"tmp\"}", {{"/runtime_dir", "found \"tmp\", allowed an absolute path, or \"\""}}},
    {"{" D ",\"runtime_dir\":7}", {{"/runtime_dir", "found 7, allowed a string of at most 255 bytes"}}},
    {"{" D ",\"runtime_dir\":\"/123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123\"}",
     {{"/runtime_dir",
       "found \"/12345678901234567890123456789012345678901234567890123456789...\", allowed a path of at most 93 bytes, because a "
       "socket's path has at most 107"}}},
    {"{" D ",\"socket_group\":\"no such group\"}",
     {{"/socket_group", "found \"no such group\", allowed a group that this machine knows, or \"\""}}},
    {"{" D ",\"access\":[]}", {{"/access", "found an array of 0, allowed an object"}}},
    {"{" D ",\"access\":{\"uid\":[]}}", {{"/access/uid", "found an unknown key, did you mean \"uids\"? Allowed: uids, gids"}}},
    {"{" D ",\"access\":{\"uids\":0}}", {{"/access/uids", "found 0, allowed an array of at most 64"}}},
    {"{" D ",\"admin\":{\"uids\":[\"no such user\",-1],\"gids\":[4294967295,true]}}",
     {{"/admin/uids/0", "found \"no such user\", allowed a user that this machine knows, or a number"},
      {"/admin/uids/1", "found -1, allowed an integer from 0 to 4294967294 or the name of a user"},
      {"/admin/gids/0", "found 4294967295, allowed an integer from 0 to 4294967294 or the name of a group"},
      {"/admin/gids/1", "found true, allowed an integer from 0 to 4294967294 or the name of a group"}}},
    {"{\"devices\":{\"host\":65}}", {{"/devices/host", "found 65, allowed an integer from 1 to 64 devices"}}},
    {"{\"devices\":{}}",
     {{"/devices", "found an object, allowed either \"host\" or \"cuda\" with a count; an array of devices may mix them"}}},
    {"{\"devices\":{\"host\":1,\"cuda\":1}}",
     {{"/devices", "found an object, allowed either \"host\" or \"cuda\" with a count; an array of devices may mix them"}}},
    {"{\"devices\":[]}", {{"/devices", "found an array of 0, allowed an array of 1 to 64 devices, or {\"host\": COUNT}"}}},
    {"{\"devices\":[{\"number\":0,\"kind\":\"gpu\"},{\"number\":64,\"kind\":\"host\"},{\"kind\":\"host\"},5,{\"number\":1,\"kind\":"
     "\"host\","
     "\"uuid\":\"GPU-1\"},{\"number\":1,\"kind\":\"cuda\"}]}",
     {{"/devices/0/kind", "found \"gpu\", allowed \"host\" or \"cuda\""},
      {"/devices/1/number", "found 64, allowed an integer from 0 to 63"},
      {"/devices/2", "found no \"number\", which must be there"},
      {"/devices/3", "found 5, allowed an object"},
      {"/devices/4/uuid", "found \"GPU-1\", allowed \"\" for a host device"},
      {"/devices/5/number", "found 1, allowed a number that no other device of the node has"}}},
    {"{" D ",\"nodes\":[]}", {{"/devices", "found an object, allowed only one of \"nodes\" and \"devices\""}}},
    {"{\"nodes\":{}}", {{"/nodes", "found an object, allowed an array of 1 to 64 nodes"}}},
    {"{\"nodes\":[{\"name\":\"a b\",\"address\":\"x\",\"devices\":{\"host\":1}}]}",
     {{"/nodes/0/name", "found \"a b\", allowed a name of 1 to 63 of the characters A-Z a-z 0-9 . _ : / -"},
      {"/nodes/0/address", "found \"x\", allowed HOST:PORT of at most 63 bytes, or \"\""}}},
    {"{\"nodes\":[{\"name\":\"a\",\"address\":\"fd00::1:70\"}]}",
     {{"/nodes/0/address", "found \"fd00::1:70\", allowed HOST:PORT of at most 63 bytes, or \"\""},
      {"/nodes/0", "found no \"devices\", which must be there"}}},
    {"{\"nodes\":[{\"name\":\"a\",\"devices\":{\"host\":1},\"address\":\"h:65536\"}]}",
     {{"/nodes/0/address", "found \"h:65536\", allowed HOST:PORT of at most 63 bytes, or \"\""}}},
    {"{\"node\":\"c\",\"nodes\":[{\"name\":\"a\",\"devices\":{\"host\":1}},{\"name\":\"b\",\"devices\":{\"host\":1}}]}",
     {{"/node", "found \"c\", allowed the name of one of the nodes: a, b"}}},
    {"{\"node\":\"c d\"," D "}", {{"/node", "found \"c d\", allowed a name of 1 to 63 of the characters A-Z a-z 0-9 . _ : / -"}}},
    {"{\"nodes\":[{\"name\":\"a\",\"devices\":{\"host\":1}},{\"name\":\"a\",\"devices\":{\"host\":1}}],\"node\":\"a\"}",
     {{"/nodes/1", "found \"a\" for the second time, allowed once"}}},
    {"{" D ",\"groups\":{}}", {{"/groups", "found an object, allowed an array of at most 256 groups"}}},
    {"{" D ",\"groups\":[7]}", {{"/groups/0", "found 7, allowed an object"}}},
    {"{" D ",\"groups\":[{}]}",
     {{"/groups/0", "found no \"name\", which must be there"}, {"/groups/0", "found no \"ranks\", which must be there"}}},
    {"{" D ",\"groups\":[{\"name\":\"\",\"ranks\":[]}]}",
     {{"/groups/0/name", "found \"\", allowed a name of 1 to 63 of the characters A-Z a-z 0-9 . _ : / -"},
      {"/groups/0/ranks", "found an array of 0, allowed an array of 1 to 64 ranks"}}},
    {"{" D ",\"groups\":[{\"name\":\"t\",\"ranks\":[0,9,\"1\",{\"node\":\"x\",\"device\":0},{\"devise\":1}]}],\"node\":\"me\"}",
     {{"/groups/0/ranks/1", "found 9, allowed a device of node me: 0, 1, 2, 3"},
      {"/groups/0/ranks/2", "found \"1\", allowed a device number, or {\"node\": NAME, \"device\": NUMBER}"},
      {"/groups/0/ranks/3/node", "found \"x\", allowed the name of a node: me"},
      {"/groups/0/ranks/4/devise", "found an unknown key, did you mean \"device\"? Allowed: node, device"},
      {"/groups/0/ranks/4", "found no \"device\", which must be there"}}},
    {"{" D ",\"groups\":[{\"name\":\"t\",\"ranks\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}]}",
     {{"/groups/0/ranks", "found an array of 17, allowed at most 16 ranks in a group of host devices"}}},
    {"{\"devices\":[{\"number\":0,\"kind\":\"host\"},{\"number\":1,\"kind\":\"cuda\"}],"
     "\"groups\":[{\"name\":\"g\",\"ranks\":[0,1]}]}",
     {{"/groups/0/ranks", "found an array of 2, allowed host devices only, or cuda devices only"}}},
    {"{\"devices\":[{\"number\":0,\"kind\":\"cuda\",\"uuid\":\"GPU-1\"},{\"number\":1,\"kind\":\"cuda\",\"uuid\":\"GPU-1\"}]}",
     {{"/devices/1/uuid", "found \"GPU-1\", allowed a UUID that no other device of the node has"}}},
    {"{" D ",\"choosing\":{\"tuning\":\"tables.json\"}}",
     {{"/choosing/tuning", "found \"tables.json\", allowed an absolute path, or \"\""}}},
    {"{\"devices\":{\"cuda\":2},\"groups\":[{\"name\":\"t\",\"ranks\":[0,1,0]}]}",
     {{"/groups/0/ranks/2", "found 0, allowed a cuda device only once in a group"}}},
    {"{" D ",\"groups\":[{\"name\":\"t\",\"ranks\":[0],\"deadline_ms\":0,\"lane\":\"fast\",\"strategy\":\"ring\",\"access\":1}]}",
     {{"/groups/0/access", "found 1, allowed an object"},
      {"/groups/0/deadline_ms", "found 0, allowed an integer from 1 to 86400000 ms"},
      {"/groups/0/lane", "found \"fast\", allowed one of auto, direct, served"},
      {"/groups/0/strategy",
       "found \"ring\", allowed one of nccl, min-latency, ub, auto, oneshot, twoshot, lowprecision, mnnvl, nccl-symmetric, "
       "symm-mem"}}},
    {"{" D ",\"groups\":[{\"name\":\"t\",\"ranks\":[0]},{\"name\":\"u\",\"ranks\":[0]},{\"name\":\"t\",\"ranks\":[1]}]}",
     {{"/groups/2", "found \"t\" for the second time, allowed once"}}},
    {"{" D ",\"multicast\":true,\"multicast\":false}", {{"/multicast", "found the key for the second time, allowed once"}}},
    {"{" D ",\"groups\":[{\"name\":\"t\",\"ranks\":[0],\"ranks\":[1]}]}",
     {{"/groups/0/ranks", "found the key for the second time, allowed once"}}},
    /* a broken topology is not complained about again at every rank */
    {"{\"devices\":{\"hots\":4},\"groups\":[{\"name\":\"t\",\"ranks\":[0,1]}]}",
     {{"/devices/hots", "found an unknown key, did you mean \"host\"? Allowed: host, cuda"},
      {"/devices", "found an object, allowed either \"host\" or \"cuda\" with a count; an array of devices may mix them"}}},
};

static void check_bad(const struct bad *bad)
{
    struct tcf_issues issues;
    struct tcf_config *config = parse(bad->text, &issues);
    uint32_t count = 0;
    assert_null(config);
    while (count < MOST && bad->issues[count].text)
        count++;
    if (issues.count != count) {
        tcf_issues_print(&issues, stderr);
        fail_msg("%u complaints instead of %u about %s", issues.count, count, bad->text);
    }
    for (uint32_t i = 0; i < count; i++) {
        assert_string_equal(issues.items[i].file, "t.json");
        assert_string_equal(issues.items[i].pointer, bad->issues[i].pointer);
        assert_string_equal(issues.items[i].text, bad->issues[i].text);
    }
    tcf_issues_free(&issues);
}

static void syntax_errors_have_line_and_column(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(syntax_errors) / sizeof(syntax_errors[0]); i++)
        check_bad(&syntax_errors[i]);
}

static void every_error_is_reported(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(value_errors) / sizeof(value_errors[0]); i++)
        check_bad(&value_errors[i]);
}

static void a_nul_byte_is_no_end(void **state)
{
    (void)state;
    static const char text[] = "{" D "}\0{";
    struct tcf_issues issues = {0};
    assert_null(tcf_config_parse("t.json", text, sizeof(text) - 1, &issues));
    assert_string_equal(issues.items[0].text, "line 1, column 23: found byte 0x00, allowed nothing after the first JSON value");
    tcf_issues_free(&issues);
}

static void too_long_is_refused(void **state)
{
    (void)state;
    enum { BYTES = (1 << 20) + 1 };
    struct tcf_issues issues = {0};
    char *text = malloc(BYTES);
    assert_non_null(text);
    memset(text, ' ', BYTES);
    memcpy(text, "{" D "}", strlen("{" D "}"));
    assert_null(tcf_config_parse("t.json", text, BYTES, &issues));
    assert_string_equal(issues.items[0].text, "found more than 1048576 bytes, allowed at most that");
    tcf_issues_free(&issues);
    struct tcf_config *config = tcf_config_parse("t.json", text, BYTES - 1, &issues);
    assert_non_null(config);
    tcf_config_free(config);
    free(text);
}

/* `before`, then `count` times head, number, tail, then `after`. */
static char *many(const char *before, const char *head, const char *tail, unsigned count, const char *after)
{
    size_t size = strlen(before) + count * 32 + strlen(after) + 1, used;
    char *text = malloc(size);
    assert_non_null(text);
    used = (size_t)snprintf(text, size, "%s", before);
    for (unsigned i = 0; i < count; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%u%s", head, i, tail);
    snprintf(text + used, size - used, "%s", after);
    return text;
}

static void the_flood_of_complaints_is_bounded(void **state)
{
    (void)state;
    struct tcf_issues issues;
    char *text = many("{" D ",\"groups\":[", "{\"x", "\":1},", 255, "{}]}");
    assert_null(parse(text, &issues));
    assert_int_equal(issues.count, 255 * 3 + 2);
    free(text);
    tcf_issues_free(&issues);

    text = many("{" D "", ",\"k", "\":1", 1020, "}");
    assert_null(parse(text, &issues));
    assert_int_equal(issues.count, 1001);
    assert_string_equal(issues.items[1000].text, "more than 1000 errors; the rest is not shown");
    free(text);
    tcf_issues_free(&issues);

    text = many("{" D "", ",\"k\":", "", 1024, "}");
    assert_null(parse(text, &issues));
    assert_string_equal(issues.items[0].text, "found 1025 members, allowed at most 1024");
    free(text);
    tcf_issues_free(&issues);
}

static void complaints_are_printed(void **state)
{
    (void)state;
    struct tcf_issues issues;
    char *out = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&out, &bytes);
    assert_non_null(file);
    assert_null(parse("{\"ring\":{\"entries\":9}}", &issues));
    tcf_issues_print(&issues, file);
    fclose(file);
    assert_string_equal(out, "t.json: /ring/entries: found 9, allowed a power of two from 8 to 4096 entries\n"
                             "t.json: found neither \"devices\" nor \"nodes\", one must be there\n");
    free(out);
    tcf_issues_free(&issues);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_come_from_the_table), cmocka_unit_test(values_are_read),
        cmocka_unit_test(host_name_chooses_the_node),   cmocka_unit_test(syntax_errors_have_line_and_column),
        cmocka_unit_test(every_error_is_reported),      cmocka_unit_test(a_nul_byte_is_no_end),
        cmocka_unit_test(too_long_is_refused),          cmocka_unit_test(the_flood_of_complaints_is_bounded),
        cmocka_unit_test(complaints_are_printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
