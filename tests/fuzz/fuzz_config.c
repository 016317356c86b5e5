/* Any text as a configuration: refused with complaints, or accepted and then stable under printing and reading back. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <tcf/config.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tcf_issues issues = {0};
    struct tcf_config *config = tcf_config_parse("fuzz.json", (const char *)data, size, &issues);
    require((config == NULL) == (issues.count > 0));
    tcf_issues_free(&issues);
    if (!config)
        return 0;

    char *text = tcf_config_print(config);
    require(text != NULL);
    struct tcf_config *again = tcf_config_parse("printed.json", text, strlen(text), &issues);
    require(again != NULL);
    require(again->local_node == config->local_node);
    require(tcf_config_diff(config, again, NULL, NULL, NULL) == 0);
    tcf_config_free(again);
    tcf_config_free(config);
    free(text);
    return 0;
}
