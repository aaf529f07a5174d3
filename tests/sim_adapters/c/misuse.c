/* Whatever is wrong gives a code and a sentence; prints "name code sentence" lines. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "headrace.h"

static void tell(const char *name, int64_t code)
{
    printf("%s %lld %s\n", name, (long long)code, code < 0 ? hr_last_error() : "");
}

static void null_everywhere(void)
{
    hr_stream *none = NULL;
    hr_command *c = NULL;
    double number;
    int64_t step;
    hr_free(NULL);
    hr_free(&none);
    tell("null-new", hr_new(NULL, "w"));
    tell("null-name", hr_new(&none, NULL));
    tell("null-set", hr_set(NULL, "rank", "0"));
    tell("null-number", hr_set_number(NULL, "rank", 0));
    tell("null-declare", hr_declare(NULL, "x", HR_FLOAT64, 0, NULL, NULL, 0));
    tell("null-describe", hr_describe(NULL, "x", "y"));
    tell("null-attribute", hr_attribute(NULL, "x", "y"));
    tell("null-particles", hr_particles(NULL, 1, NULL, NULL, NULL, NULL, NULL));
    tell("null-bonds", hr_bonds(NULL, 0, NULL));
    tell("null-capability", hr_capability(NULL, "stop", NULL, 0, 1, NULL, NULL));
    tell("null-open", hr_open(NULL));
    tell("null-resumed", hr_get_resumed(NULL, NULL));
    tell("null-value", hr_value(NULL, NULL, NULL, 0));
    tell("null-put", hr_put(NULL, 0, 0));
    tell("null-block", hr_put_block(NULL, 0, 0, 0, 0, NULL));
    tell("null-flush", hr_flush(NULL, 0));
    tell("null-event", hr_event(NULL, NULL, NULL, NULL));
    tell("null-poll", hr_poll(NULL, 0, 0, &c));
    tell("null-applied", hr_applied(NULL, NULL, 0, 0));
    tell("null-refuse", hr_refuse(NULL, NULL, NULL, 0, 0));
    tell("null-wait", hr_wait(NULL, 0));
    tell("null-next", hr_next_command(NULL, &step));
    tell("null-load", hr_command_load(NULL, NULL));
    tell("null-close", hr_close(NULL, 1));
    tell("null-statistics", hr_get_statistics(NULL, NULL));
    tell("null-command-number", hr_command_number(NULL, "x", &number));
    tell("null-command-text", hr_command_text(NULL, "x", NULL, 0));
    tell("null-command-count", hr_command_count(NULL, "x"));
    tell("null-command-array", hr_command_array(NULL, "x", NULL, 0));
    if (hr_due(NULL, 0) || hr_stopped(NULL) || hr_every(NULL) != 1 || hr_epoch(NULL) ||
        *hr_command_id(NULL) || !isnan(hr_command_value(NULL)))
        printf("null answers\n");
}

static void declarations(void)
{
    const int64_t shape[] = {2, 3}, negative[] = {-1}, huge[] = {INT64_MAX, INT64_MAX};
    const int64_t large[] = {1 << 30};
    const char *names[] = {"C", "\xff"};
    hr_stream *s;
    hr_command *c;
    tell("bad-name", hr_new(&s, "a b"));
    tell("long-name", hr_new(&s, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
    tell("new", hr_new(&s, "w"));
    tell("open-empty", hr_open(s));
    tell("no-option", hr_set(s, "colour", "red"));
    tell("no-number", hr_set_number(s, "colour", 1));
    tell("bad-policy", hr_set(s, "when_full", "explode"));
    tell("bad-mapped", hr_set(s, "mapped", "maybe"));
    tell("bad-rank", hr_set(s, "rank", "-1"));
    tell("bad-ranks", hr_set(s, "ranks", "0"));
    tell("bad-capacity", hr_set_number(s, "capacity", 0.5));
    tell("bad-timeout", hr_set_number(s, "timeout", NAN));
    tell("bad-every", hr_set_number(s, "every", 0));
    tell("bad-text", hr_set(s, "time_unit", "\xc3"));
    tell("bad-dtype", hr_declare(s, "x", ">f8", 0, NULL, NULL, 0));
    tell("no-dtype", hr_declare(s, "x", "f16", 0, NULL, NULL, 0));
    tell("null-dtype", hr_declare(s, "x", NULL, 0, NULL, NULL, 0));
    tell("no-shape", hr_declare(s, "x", HR_FLOAT64, 1, NULL, NULL, 0));
    tell("bad-ndim", hr_declare(s, "x", HR_FLOAT64, 99, shape, NULL, 0));
    tell("bad-shape", hr_declare(s, "x", HR_FLOAT64, 1, negative, NULL, 0));
    tell("bad-flags", hr_declare(s, "x", HR_FLOAT64, 0, NULL, NULL, 8));
    tell("huge", hr_declare(s, "x", HR_FLOAT64, 2, huge, NULL, 0));
    tell("large", hr_declare(s, "x", HR_FLOAT64, 1, large, NULL, 0));
    tell("no-rows", hr_declare(s, "x", HR_FLOAT64, 0, NULL, NULL, HR_DECOMPOSED));
    tell("reserved", hr_declare(s, "step", HR_FLOAT64, 0, NULL, NULL, 0));
    tell("declare", hr_declare(s, "x", HR_FLOAT64, 2, shape, "nm", HR_DECOMPOSED));
    tell("twice", hr_declare(s, "x", HR_FLOAT64, 0, NULL, NULL, 0));
    tell("other-rows", hr_declare(s, "v", HR_FLOAT64, 1, large, NULL, HR_DECOMPOSED));
    tell("no-variable", hr_describe(s, "y", "text"));
    tell("no-kind", hr_capability(s, "explode", NULL, 0, 1, NULL, NULL));
    tell("no-parameter", hr_capability(s, "set", NULL, 0, 1, NULL, NULL));
    tell("odd-parameter", hr_capability(s, "stop", "x", 0, 1, NULL, NULL));
    tell("bad-bounds", hr_capability(s, "set", "x", 1, 0, NULL, NULL));
    tell("nan-bounds", hr_capability(s, "set", "x", NAN, 0, NULL, NULL));
    tell("bad-particle", hr_particles(s, 2, names, NULL, NULL, NULL, NULL));
    tell("put-early", hr_put(s, 0, 0.0));
    tell("poll-early", hr_poll(s, 0, 0.0, &c));
    tell("flush-early", hr_flush(s, 0.0));
    tell("bad-address", hr_set(s, "stager", "127.0.0.1:5"));
    tell("open-bad-address", hr_open(s));
    tell("odd-address", hr_set(s, "stager", "tcp://:::"));
    tell("open-odd-address", hr_open(s));
    hr_set(s, "stager", "tcp://127.0.0.1:9");
    hr_set(s, "timeout", "0.3");
    tell("open-nobody", hr_open(s));
    hr_set(s, "stager", "");
    hr_set(s, "run_directory", "/nonexistent");
    tell("open-no-file", hr_open(s));
    hr_set(s, "run_directory", "");
    tell("open-nowhere", hr_open(s));
    hr_set(s, "stager", "tcp://127.0.0.1:9");
    hr_set(s, "keys", "/nonexistent");
    tell("open-no-keys", hr_open(s));
    hr_set(s, "keys", "");
    hr_set(s, "rank", "3");
    tell("open-rank", hr_open(s));
    tell("close", hr_close(s, 1));
    tell("open-closed", hr_open(s));
    hr_free(&s);
}

static void frames(const char *address)
{
    const int64_t shape[] = {2, 3}, ids[] = {0, 7};
    double x[6] = {0}, out[6];
    hr_stream *s;
    hr_command *c = NULL;
    char text[8];
    hr_new(&s, "w");
    hr_set(s, "stager", address);
    hr_declare(s, "x", HR_FLOAT64, 2, shape, "nm", HR_DECOMPOSED);
    hr_capability(s, "set", "F", 0, 1, NULL, NULL);
    tell("open", hr_open(s));
    tell("open-again", hr_open(s));
    tell("declare-late", hr_declare(s, "y", HR_FLOAT64, 0, NULL, NULL, 0));
    tell("option-late", hr_set(s, "rank", "1"));
    tell("every-late", hr_set(s, "every", "2"));
    tell("no-value", hr_value(s, "y", x, sizeof x));
    tell("null-data", hr_value(s, "x", NULL, sizeof x));
    tell("missing", hr_put(s, 0, 0.0));
    hr_value(s, "x", x, sizeof x - 1);
    tell("short", hr_put(s, 0, 0.0));
    hr_value(s, "x", x, sizeof x);
    tell("put", hr_put(s, 0, 0.0));
    tell("stale-value", hr_put(s, 1, 0.0));
    hr_value(s, "x", x, sizeof x);
    tell("same-step", hr_put(s, 0, 0.0));
    tell("block-outside", hr_put_block(s, 1, 0.0, 1, 2, NULL));
    tell("block-negative", hr_put_block(s, 1, 0.0, 0, -1, NULL));
    tell("block-ids", hr_put_block(s, 1, 0.0, 0, 2, ids));
    tell("block-part", hr_put_block(s, 1, 0.0, 0, 1, NULL));
    tell("poll-null", hr_poll(s, 1, 0.0, NULL));
    tell("applied-null", hr_applied(s, NULL, 1, 0.0));
    tell("bad-event", hr_event(s, "x", "loud", "y"));
    while (hr_wait(s, 10.0) == HR_OK && hr_poll(s, 1, 0.5, &c) != HR_OK)
        continue;
    tell("no-field", hr_command_number(c, "colour", out));
    tell("not-number", hr_command_number(c, "reason", out));
    tell("not-text", hr_command_text(c, "value", text, sizeof text));
    tell("cut-text", hr_command_text(c, "reason", text, sizeof text));
    printf("cut 0 %s.\n", text);
    tell("not-array", hr_command_array(c, "reason", out, 1));
    tell("array-size", hr_command_array(c, "list", out, 2));
    tell("array", hr_command_array(c, "list", out, 3));
    tell("array-count", hr_command_count(c, "list"));
    tell("nothing-to-load", hr_command_load(s, c));
    tell("applied", hr_applied(s, c, 1, 0.5));
    tell("applied-twice", hr_applied(s, c, 1, 0.5));
    tell("close", hr_close(s, 1));
    tell("put-closed", hr_put(s, 5, 0.0));
    tell("poll-closed", hr_poll(s, 5, 0.0, &c));
    tell("event-closed", hr_event(s, "x", "info", "y"));
    tell("close-twice", hr_close(s, 1));
    hr_free(&s);
    hr_free(&s);
}

int main(int argc, char **argv)
{
    int code;
    unsetenv("HEADRACE_STAGER");
    for (code = 3; code > -20; code--)
        printf("code%d 0 %s\n", code, hr_error_string(code));
    null_everywhere();
    declarations();
    if (argc > 1)
        frames(argv[1]);
    return 0;
}
