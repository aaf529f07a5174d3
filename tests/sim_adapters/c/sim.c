/*
 * A simulation for the tests: x[i][k] = step + offset + i / 1000 + k / 8, and the parameter F.
 *
 *     sim NAME steps=N rows=N [ranks=N rank=N ids=1] [until_stopped=1] [delay=SECONDS]
 *         [finished=0] [go=FILE] [wait=1] [OPTION=VALUE ...]
 *
 * With `go`, it goes on behind step 4 only when the file exists; with `wait`, it asks hr_wait after
 * each frame whether there is a command. What happens is printed, a line each.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "headrace.h"

static double number_of(int argc, char **argv, const char *key, double otherwise)
{
    size_t n = strlen(key);
    for (int i = 2; i < argc; i++)
        if (strncmp(argv[i], key, n) == 0 && argv[i][n] == '=')
            return atof(argv[i] + n + 1);
    return otherwise;
}

static int check(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %d %s\n", what, code, hr_last_error());
        exit(3);
    }
    return code;
}

static void stand_still(double seconds)
{
    struct timespec left = {(time_t)seconds, (long)((seconds - floor(seconds)) * 1e9)};
    nanosleep(&left, NULL);
}

static const char *path_of(int argc, char **argv, const char *key)
{
    size_t n = strlen(key);
    for (int i = 2; i < argc; i++)
        if (strncmp(argv[i], key, n) == 0 && argv[i][n] == '=')
            return argv[i] + n + 1;
    return NULL;
}

static double f = 1.0, offset = 0.0;

static void serve(hr_stream *s, int64_t step, int64_t rows)
{
    hr_command *c;
    char reason[200];
    while (check(hr_poll(s, step, 0.5 * (double)step, &c), "poll") == HR_OK) {
        char id[200];
        snprintf(id, sizeof id, "%s", hr_command_id(c));
        if (strcmp(hr_command_kind(c), "restart") == 0) {
            double *x = malloc(sizeof *x * (size_t)rows * 3);
            int code = hr_command_load(s, c);
            if (code == HR_OK)
                code = hr_command_array(c, "x", x, (size_t)rows * 3);
            if (code < 0)
                check(hr_refuse(s, c, hr_last_error(), step, 0.5 * (double)step), "refuse");
            else {
                offset = x[0] - (double)step;
                check(hr_applied(s, c, step, 0.5 * (double)step), "applied");
            }
            free(x);
            printf("restart %s %d %lld\n", id, code, (long long)step);
        } else if (strcmp(hr_command_parameter(c), "F") == 0) {
            double weight = 0.0;
            if (hr_command_text(c, "reason", reason, sizeof reason) < 0)
                reason[0] = 0;
            hr_command_number(c, "weight", &weight);
            f = hr_command_value(c);
            check(hr_applied(s, c, step, 0.5 * (double)step), "applied");
            if (hr_applied(s, c, step, 0.0) != HR_ERROR_COMMAND)
                fprintf(stderr, "answered twice\n");
            printf("set %s %g %g %lld %s\n", id, f, weight, (long long)step, reason);
        } else {
            check(hr_refuse(s, c, "F alone can be set.", step, 0.5 * (double)step), "refuse");
            printf("refused %s %lld\n", id, (long long)step);
        }
        fflush(stdout);
    }
}

static hr_stream *open_it(int argc, char **argv, int64_t rows, int decomposed)
{
    static const char *const own[] = {"steps", "rows", "ids", "until_stopped", "delay", "finished",
                                      "go", "wait"};
    const int64_t shape[] = {rows, 3};
    hr_stream *s;
    check(hr_new(&s, argv[1]), "new");
    for (int i = 2; i < argc; i++) {
        char key[64];
        const char *value = strchr(argv[i], '=');
        int mine = 0;
        snprintf(key, sizeof key, "%.*s", (int)(value - argv[i]), argv[i]);
        for (size_t k = 0; k < sizeof own / sizeof *own; k++)
            mine = mine || strcmp(key, own[k]) == 0;
        if (!mine)
            check(hr_set(s, key, value + 1), argv[i]);
    }
    check(hr_declare(s, "x", HR_FLOAT32, 2, shape, "nm", decomposed ? HR_DECOMPOSED : 0), "declare");
    check(hr_declare(s, "F", HR_FLOAT64, 0, NULL, "", 0), "declare");
    check(hr_attribute(s, "code", "test"), "attribute");
    check(hr_capability(s, "set", "F", 0.0, 10.0, "1/s", "Feed."), "capability");
    check(hr_capability(s, "set", "k", 0.0, 10.0, "", NULL), "capability");
    check(hr_capability(s, "restart", NULL, -INFINITY, INFINITY, NULL, NULL), "capability");
    check(hr_capability(s, "pause", NULL, -INFINITY, INFINITY, NULL, NULL), "capability");
    check(hr_capability(s, "resume", NULL, -INFINITY, INFINITY, NULL, NULL), "capability");
    check(hr_capability(s, "stop", NULL, -INFINITY, INFINITY, NULL, NULL), "capability");
    check(hr_capability(s, "interval", NULL, 1, 50, NULL, NULL), "capability");
    check(hr_open(s), "open");
    return s;
}

int main(int argc, char **argv)
{
    int64_t rows = (int64_t)number_of(argc, argv, "rows", 4);
    int64_t steps = (int64_t)number_of(argc, argv, "steps", 10);
    int64_t ranks = (int64_t)number_of(argc, argv, "ranks", 1), dropped = 0, waits = 0;
    int64_t rank = (int64_t)number_of(argc, argv, "rank", 0);
    int with_ids = (int)number_of(argc, argv, "ids", 0);
    int until = (int)number_of(argc, argv, "until_stopped", 0);
    double delay = number_of(argc, argv, "delay", 0.0);
    int with_wait = (int)number_of(argc, argv, "wait", 0);
    const char *go = path_of(argc, argv, "go");
    hr_stream *s = open_it(argc, argv, rows, ranks > 1 || with_ids);
    hr_resumed resumed;
    hr_statistics t;
    check(hr_get_resumed(s, &resumed), "resumed");
    printf("opened %lld %lld %lld %d\n", (long long)resumed.incarnation,
           (long long)resumed.next_offset, (long long)resumed.last_step, resumed.mapped);
    fflush(stdout);
    int64_t first = resumed.next_offset ? resumed.last_step + 1 : 0, step;
    int64_t begin = rows * rank / ranks, mine = rows * (rank + 1) / ranks - begin;
    float *x = malloc(sizeof *x * (size_t)(mine * 3 + 1));
    int64_t *ids = malloc(sizeof *ids * (size_t)(mine + 1));
    for (step = first; (step < first + steps || until) && !hr_stopped(s); step++) {
        /* With ids, ranks have the rows in turn, the last first. */
        for (int64_t i = 0; i < mine; i++) {
            ids[i] = with_ids ? rank + ranks * (mine - 1 - i) : begin + i;
            for (int k = 0; k < 3; k++)
                x[3 * i + k] = (float)((double)step + offset + (double)ids[i] / 1000.0 + k / 8.0);
        }
        if (hr_due(s, step)) {
            check(hr_value(s, "x", x, sizeof *x * (size_t)mine * 3), "value");
            check(hr_value(s, "F", &f, sizeof f), "value");
            int code = ranks > 1 || with_ids
                           ? hr_put_block(s, step, 0.5 * (double)step, begin, mine,
                                          with_ids ? ids : NULL)
                           : hr_put(s, step, 0.5 * (double)step);
            dropped += check(code, "put") == HR_DROPPED;
        }
        if (with_wait && check(hr_wait(s, 0.0), "wait") == HR_OK)
            printf("wait %lld\n", (long long)step);
        serve(s, step, rows);
        if (delay > 0.0)
            stand_still(delay);
        if (go != NULL && step == first + 4) {
            printf("waiting\n");
            fflush(stdout);
            while (access(go, F_OK) != 0 && waits++ < 60000)
                stand_still(0.001);
        }
    }
    int code = hr_close(s, number_of(argc, argv, "finished", 1) != 0);
    if (code < 0)
        fprintf(stderr, "close: %d %s\n", code, hr_last_error());
    check(hr_close(s, 1), "close again");
    hr_get_statistics(s, &t);
    printf("end %lld frames=%lld acknowledged=%lld dropped=%lld/%lld reconnects=%lld applied=%lld "
           "refused=%lld expired=%lld repeated=%lld\n", (long long)step, (long long)t.frames,
           (long long)t.acknowledged, (long long)t.dropped, (long long)dropped,
           (long long)t.reconnects, (long long)t.applied, (long long)t.refused,
           (long long)t.expired, (long long)t.repeated);
    hr_free(&s);
    free(x);
    free(ids);
    return code < 0 ? 4 : 0;
}
