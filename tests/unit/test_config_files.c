/* Configurations on disk and over time: files laid over each other, what a reload would change, printing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <tcf/config.h>

/* ---- a directory with main.json and main.json.d ---- */

static char directory[64], main_path[96];
static const char *const fragments[] = {"10-a.json", "20-b.json", ".30-hidden.json", "40.txt", "9.json"};

static int make_directory(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "/tmp/trtcoll-config-XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    snprintf(main_path, sizeof(main_path), "%s/main.json", directory);
    return 0;
}

static void fragment_path(const char *name, char out[160])
{
    snprintf(out, 160, "%s.d%s%s", main_path, name[0] ? "/" : "", name);
}

static int remove_directory(void **state)
{
    (void)state;
    char path[160];
    for (size_t i = 0; i < sizeof(fragments) / sizeof(fragments[0]); i++) {
        fragment_path(fragments[i], path);
        unlink(path);
    }
    fragment_path("", path);
    rmdir(path);
    unlink(path);
    rmdir(main_path);
    unlink(main_path);
    return rmdir(directory);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void write_fragment(const char *name, const char *text)
{
    char path[160];
    fragment_path("", path);
    mkdir(path, 0700);
    fragment_path(name, path);
    write_file(path, text);
}

static struct tcf_config *load_good(void)
{
    struct tcf_issues issues = {0};
    struct tcf_config *config = tcf_config_load(main_path, &issues);
    if (!config) {
        tcf_issues_print(&issues, stderr);
        tcf_issues_free(&issues);
        fail_msg("refused");
    }
    return config;
}

static void later_files_are_laid_over(void **state)
{
    (void)state;
    write_file(
        main_path,
        "{\"devices\":{\"host\":2},\"limits\":{\"max_clients\":10,\"client\":{\"plans\":5}},\"access\":{\"uids\":[1,2],\"gids\":[3]},"
        "\"groups\":[{\"name\":\"a\",\"ranks\":[0,1],\"lane\":\"direct\"},{\"name\":\"b\",\"ranks\":[1]}]}");
    write_fragment(
        "10-a.json",
        "{\"limits\":{\"client\":{\"groups\":7}},\"groups\":[{\"name\":\"c\",\"ranks\":[3]},{\"name\":\"a\",\"deadline_ms\":9}]}");
    write_fragment("20-b.json", "{\"devices\":{\"host\":4},\"limits\":{\"max_clients\":11},\"access\":{\"uids\":[4]},"
                                "\"groups\":[{\"name\":\"c\",\"ranks\":[2,3]}]}");
    write_fragment("9.json", "{\"limits\":{\"max_clients\":12}}"); /* after 10 and 20: by bytes */
    write_fragment(".30-hidden.json", "no JSON");
    write_fragment("40.txt", "no JSON");
    struct tcf_config *config = load_good();
    assert_int_equal(config->nodes[0].device_count, 4);
    assert_int_equal(config->options.max_clients, 12);
    assert_int_equal(config->options.client_plans, 5);
    assert_int_equal(config->options.client_groups, 7);
    assert_int_equal(config->access.uid_count, 1);
    assert_int_equal(config->access.uids[0], 4);
    assert_int_equal(config->access.gids[0], 3);
    assert_int_equal(config->group_count, 3);
    assert_string_equal(config->groups[0].name, "a");
    assert_int_equal(config->groups[0].size, 2);
    assert_int_equal(config->groups[0].lane, TCW_LANE_DIRECT);
    assert_true(config->groups[0].deadline_ns == 9000000);
    assert_string_equal(config->groups[1].name, "b");
    assert_string_equal(config->groups[2].name, "c");
    assert_int_equal(config->groups[2].size, 2);
    assert_int_equal(config->groups[2].ranks[0].device, 2);
    tcf_config_free(config);
}

static void devices_are_replaced_whole(void **state)
{
    (void)state;
    write_file(main_path, "{\"node\":\"n\",\"nodes\":[{\"name\":\"n\",\"address\":\"h:1\",\"devices\":{\"host\":2}}]}");
    write_fragment(
        "10-a.json",
        "{\"nodes\":[{\"name\":\"n\",\"devices\":{\"cuda\":8}},{\"name\":\"m\",\"devices\":[{\"number\":5,\"kind\":\"host\"}]}]}");
    struct tcf_config *config = load_good();
    assert_int_equal(config->node_count, 2);
    assert_string_equal(config->nodes[0].address, "h:1");
    assert_int_equal(config->nodes[0].device_count, 8);
    assert_int_equal(config->nodes[0].devices[0].kind, TCF_DEVICE_CUDA);
    assert_int_equal(config->nodes[1].devices[0].number, 5);
    tcf_config_free(config);
}

static void expect_issue(const struct tcf_issues *issues, uint32_t index, const char *fragment, const char *pointer, const char *text)
{
    char path[160];
    fragment_path(fragment ? fragment : "", path);
    assert_true(index < issues->count);
    assert_string_equal(issues->items[index].file, fragment ? path : main_path);
    assert_string_equal(issues->items[index].pointer, pointer);
    assert_string_equal(issues->items[index].text, text);
}

static void complaints_name_the_file_that_brought_the_value(void **state)
{
    (void)state;
    struct tcf_issues issues = {0};
    write_file(main_path,
               "{\"node\":\"n\",\"devices\":{\"host\":2},\"groups\":[{\"name\":\"a\",\"ranks\":[0,1]},{\"name\":\"b\",\"ranks\":[4]}]}");
    write_fragment("10-a.json", "{\"groups\":[{\"name\":\"c\",\"ranks\":[0]},{\"name\":\"a\",\"ranks\":[0,2]}],\"ring\":{\"entries\":7}}");
    write_fragment("20-b.json", "{\"groups\":[{\"name\":\"d\"}],}");
    assert_null(tcf_config_load(main_path, &issues));
    expect_issue(&issues, 0, "20-b.json", "", "line 1, column 26: found '}', allowed a member name in quotes");
    expect_issue(&issues, 1, "10-a.json", "/ring/entries", "found 7, allowed a power of two from 8 to 4096 entries");
    expect_issue(&issues, 2, "10-a.json", "/groups/1/ranks/1", "found 2, allowed a device of node n: 0, 1");
    expect_issue(&issues, 3, NULL, "/groups/1/ranks/0", "found 4, allowed a device of node n: 0, 1");
    assert_int_equal(issues.count, 4);
    tcf_issues_free(&issues);
}

static void files_that_cannot_be_read_are_complaints(void **state)
{
    (void)state;
    char path[160];
    struct tcf_issues issues = {0};
    assert_null(tcf_config_load(main_path, &issues));
    assert_int_equal(issues.count, 1);
    expect_issue(&issues, 0, NULL, "", "cannot be opened: No such file or directory");
    tcf_issues_free(&issues);

    assert_int_equal(mkdir(main_path, 0700), 0);
    assert_null(tcf_config_load(main_path, &issues));
    expect_issue(&issues, 0, NULL, "", "found something that is no regular file, allowed a regular file");
    tcf_issues_free(&issues);
    assert_int_equal(rmdir(main_path), 0);

    write_file(main_path, "{\"devices\":{\"host\":2}}");
    fragment_path("", path);
    write_file(path, "");
    assert_null(tcf_config_load(main_path, &issues));
    assert_int_equal(issues.count, 1);
    assert_string_equal(issues.items[0].file, path);
    assert_string_equal(issues.items[0].text, "cannot be read: Not a directory");
    tcf_issues_free(&issues);
}

/* ---- differences ---- */

static struct tcf_config *parse_good(const char *text)
{
    struct tcf_issues issues = {0};
    struct tcf_config *config = tcf_config_parse("t.json", text, strlen(text), &issues);
    if (!config) {
        tcf_issues_print(&issues, stderr);
        tcf_issues_free(&issues);
        fail_msg("refused: %s", text);
    }
    return config;
}

static char differences[4096];
static const char *used_group;

static void note_difference(void *arg, const char *pointer, const char *from, const char *to, bool applicable)
{
    assert_ptr_equal(arg, differences);
    size_t used = strlen(differences);
    snprintf(differences + used, sizeof(differences) - used, "%s %s -> %s%s\n", pointer, from, to, applicable ? "" : " (restart)");
}

static bool in_use(void *arg, const char *name)
{
    assert_ptr_equal(arg, differences);
    return used_group && strcmp(used_group, name) == 0;
}

static unsigned diff(const char *now, const char *next)
{
    struct tcf_config *from = parse_good(now), *to = parse_good(next);
    differences[0] = '\0';
    unsigned refused = tcf_config_diff(from, to, in_use, note_difference, differences);
    tcf_config_free(from);
    tcf_config_free(to);
    return refused;
}

#define N "\"node\":\"n\","
#define D N "\"devices\":{\"host\":4}"
#define GROUP(name, ranks)                                                                                                                 \
    "{\"name\":\"" name "\",\"ranks\":[" ranks "],\"access\":{\"uids\":[],\"gids\":[]},\"lane\":\"auto\",\"strategy\":\"auto\"}"
#define RANK(device) "{\"node\":\"n\",\"device\":" device "}"

static void options_say_whether_they_can_be_applied(void **state)
{
    (void)state;
    assert_int_equal(diff("{" D "}", "{" D "}"), 0);
    assert_string_equal(differences, "");
    assert_int_equal(diff("{" D "}", "{" D ",\"limits\":{\"client\":{\"plans\":3}},\"log_level\":\"err\"}"), 0);
    assert_string_equal(differences, "/log_level info -> err\n/limits/client/plans 1024 -> 3\n");
    assert_int_equal(diff("{" D ",\"runtime_dir\":\"/a\"}", "{" D ",\"socket_mode\":\"0600\",\"multicast\":true,\"ring\":{\"spin_us\":1}}"),
                     3);
    assert_string_equal(differences, "/runtime_dir /a ->  (restart)\n/socket_mode 0660 -> 0600 (restart)\n"
                                     "/multicast false -> true (restart)\n/ring/spin_us 50 -> 1\n");
    assert_int_equal(diff("{" D ",\"access\":{\"uids\":[1]}}", "{" D ",\"access\":{\"uids\":[1],\"gids\":[2]},\"admin\":{\"uids\":[5]}}"),
                     0);
    assert_string_equal(differences, "/access {\"uids\":[1],\"gids\":[]} -> {\"uids\":[1],\"gids\":[2]}\n"
                                     "/admin {\"uids\":[],\"gids\":[]} -> {\"uids\":[5],\"gids\":[]}\n");
}

static void groups_without_members_may_change(void **state)
{
    (void)state;
    static const char now[] = "{" D ",\"groups\":[{\"name\":\"a\",\"ranks\":[0,1]},{\"name\":\"b\",\"ranks\":[2]}]}";
    static const char next[] = "{" D ",\"groups\":[{\"name\":\"c\",\"ranks\":[3]},{\"name\":\"a\",\"ranks\":[1,0]}]}";
    used_group = NULL;
    assert_int_equal(diff(now, next), 0);
    assert_string_equal(differences, "/groups/0 " GROUP("a", RANK("0") "," RANK("1")) " -> " GROUP(
                                         "a", RANK("1") "," RANK("0")) "\n"
                                                                       "/groups/1 " GROUP("b", RANK("2")) " -> absent\n"
                                                                                                          "/groups/0 absent -> " GROUP(
                                                                                                              "c", RANK("3")) "\n");
    static const char *const names[] = {"a", "b", "c"};
    for (int i = 0; i < 3; i++) {
        used_group = names[i];
        assert_int_equal(diff(now, next), 1);
        assert_non_null(strstr(differences, "(restart)\n"));
    }
    used_group = "a";
    assert_int_equal(diff("{" D ",\"groups\":[{\"name\":\"a\",\"ranks\":[0]},{\"name\":\"b\",\"ranks\":[2]}]}",
                          "{" D ",\"groups\":[{\"name\":\"b\",\"ranks\":[2]},{\"name\":\"a\",\"ranks\":[0]}]}"),
                     0);
    assert_string_equal(differences, ""); /* their order means nothing */
    used_group = NULL;
}

/* Of a group that stays as it is, the deadline changes all the same; one that is replaced brings its own. */
static void deadlines_of_groups_in_use_may_change(void **state)
{
    (void)state;
#define A(more) "{" D ",\"groups\":[{\"name\":\"b\",\"ranks\":[2]},{\"name\":\"a\",\"ranks\":[0]" more "}]}"
    static const char *const in_uses[] = {NULL, "a"};
    for (int i = 0; i < 2; i++) {
        used_group = in_uses[i];
        assert_int_equal(diff(A(",\"deadline_ms\":200"), A(",\"deadline_ms\":86400000")), 0);
        assert_string_equal(differences, "/groups/1/deadline_ms 200 -> 86400000\n");
        assert_int_equal(diff(A(",\"deadline_ms\":200"), A("")), 0);
        assert_string_equal(differences, "/groups/1/deadline_ms 200 -> absent\n");
        assert_int_equal(diff(A(""), A(",\"deadline_ms\":1")), 0);
        assert_string_equal(differences, "/groups/1/deadline_ms absent -> 1\n");
        assert_int_equal(diff(A(",\"deadline_ms\":200"), A(",\"deadline_ms\":200")), 0);
        assert_string_equal(differences, "");
    }
    assert_int_equal(diff(A(",\"deadline_ms\":200"), A(",\"deadline_ms\":300,\"lane\":\"served\"")), 1);
    assert_int_equal(strncmp(differences, "/groups/1 {", 11), 0);
    assert_non_null(strstr(differences, "} (restart)\n/groups/1/deadline_ms 200 -> 300\n"));
    used_group = NULL;
    assert_int_equal(diff(A(",\"deadline_ms\":200"), A(",\"deadline_ms\":300,\"lane\":\"served\"")), 0);
    assert_int_equal(strncmp(differences, "/groups/1 {", 11), 0);
    assert_null(strstr(differences, "/deadline_ms"));
    assert_int_equal(diff(A(",\"deadline_ms\":200"), "{" D "}"), 0);
    assert_null(strstr(differences, "/deadline_ms"));
#undef A
}

static void nodes_cannot_change(void **state)
{
    (void)state;
    assert_int_equal(diff("{" N "\"devices\":{\"host\":1}}", "{" N "\"devices\":{\"cuda\":1}}"), 1);
    assert_string_equal(differences,
                        "/nodes/0 {\"name\":\"n\",\"address\":\"\",\"devices\":[{\"number\":0,\"kind\":\"host\",\"uuid\":\"\"}]} -> "
                        "{\"name\":\"n\",\"address\":\"\",\"devices\":[{\"number\":0,\"kind\":\"cuda\",\"uuid\":\"\"}]} (restart)\n");
    assert_int_equal(diff("{" D "}", "{" N "\"nodes\":[{\"name\":\"n\",\"devices\":{\"host\":4}}]}"), 0);
    assert_int_equal(
        diff("{" D "}", "{" N "\"nodes\":[{\"name\":\"n\",\"devices\":{\"host\":4}},{\"name\":\"o\",\"devices\":{\"host\":1}}]}"), 1);
    assert_int_equal(strncmp(differences, "/nodes/1 absent -> ", 19), 0);
}

/* ---- printing ---- */

static void what_is_printed_reads_back_the_same(void **state)
{
    (void)state;
    struct tcf_config *config =
        parse_good("{\"node\":\"b\",\"socket_mode\":\"0007\",\"multicast\":true,\"limits\":{\"uid\":{\"bytes\":1125899906842623}},"
                   "\"nodes\":[{\"name\":\"a\",\"address\":\"h:9\",\"devices\":{\"cuda\":2}},{\"name\":\"b\",\"devices\":{\"cuda\":3}}],"
                   "\"groups\":[{\"name\":\"g\",\"ranks\":[2,{\"node\":\"a\",\"device\":1}],\"deadline_ms\":86400000,\"lane\":\"direct\","
                   "\"strategy\":\"mnnvl\",\"access\":{\"uids\":[3],\"gids\":[4,5]}}],\"access\":{\"gids\":[6]},\"admin\":{\"uids\":[7]}}");
    char *text = tcf_config_print(config);
    assert_non_null(text);
    struct tcf_config *again = parse_good(text);
    differences[0] = '\0';
    assert_int_equal(tcf_config_diff(config, again, NULL, note_difference, differences), 0);
    assert_string_equal(differences, "");
    assert_int_equal(again->local_node, config->local_node);
    tcf_config_free(again);
    tcf_config_free(config);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(later_files_are_laid_over, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(devices_are_replaced_whole, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(complaints_name_the_file_that_brought_the_value, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(files_that_cannot_be_read_are_complaints, make_directory, remove_directory),
        cmocka_unit_test(options_say_whether_they_can_be_applied),
        cmocka_unit_test(groups_without_members_may_change),
        cmocka_unit_test(deadlines_of_groups_in_use_may_change),
        cmocka_unit_test(nodes_cannot_change),
        cmocka_unit_test(what_is_printed_reads_back_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
