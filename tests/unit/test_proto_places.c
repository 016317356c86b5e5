/* Where the library and the tool look for a daemon. */
#include "cmocka_all.h"

#include <tcw/places.h>

#include <stdlib.h>
#include <string.h>

static void expect(unsigned uid, const char *const *folders, unsigned count)
{
    struct tcw_place places[TCW_MAX_PLACES];

    assert_int_equal(tcw_places_list(places, uid), count);
    for (unsigned i = 0; i < count; i++) {
        assert_string_equal(places[i].folder, folders[i]);
        assert_int_equal(places[i].shared, !strncmp(folders[i], "/tmp/", 5));
    }
}

/* The user's own daemon first, then the system's. */
static void test_order(void **state)
{
    static const char *const root[] = {"/run/trtcoll"}, *const user[] = {"/run/user/7/trtcoll", "/run/trtcoll"};
    static const char *const nobody[] = {"/tmp/trtcoll-7", "/run/trtcoll"};
    static const char *const service[] = {"/run/a", "/run/user/7/trtcoll", "/run/trtcoll"}, *const root_service[] = {"/run/a",
                                                                                                                     "/run/trtcoll"};

    (void)state;
    unsetenv("RUNTIME_DIRECTORY");
    unsetenv("XDG_RUNTIME_DIR");
    expect(0, root, 1);
    expect(7, nobody, 2);
    setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
    expect(0, root, 1);
    expect(7, user, 2);
    setenv("RUNTIME_DIRECTORY", "/run/a:/run/b", 1);
    expect(7, service, 3);
    expect(0, root_service, 2);
    setenv("RUNTIME_DIRECTORY", "", 1);
    setenv("XDG_RUNTIME_DIR", "", 1);
    expect(7, nobody, 2);
}

static void test_too_long(void **state)
{
    static const char *const left[] = {"/run/trtcoll"};
    char folder[300];

    (void)state;
    memset(folder, 'x', sizeof(folder) - 1);
    folder[0] = '/';
    folder[sizeof(folder) - 1] = 0;
    setenv("RUNTIME_DIRECTORY", folder, 1);
    setenv("XDG_RUNTIME_DIR", folder, 1);
    expect(7, left, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order), cmocka_unit_test(test_too_long)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
