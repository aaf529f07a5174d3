/*
 * The specimen of the conformance suite over the C library: six particles that diffuse in wells.
 *
 *     specimen NAME ADDRESS EVERY SELECTION
 *
 * It reads words and writes JSON, as bridge/testing/adapter_process.py says.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "headrace.h"

enum { ROWS = 6 };
static const double DT = 0.5;

static double x[ROWS][3], temperature = 300.0;
static uint64_t noise = 88172645463325252u;
static int64_t step;
static hr_stream *stream;

static int check(int code)
{
    if (code < 0) {
        printf("%d: %s\n", code, hr_last_error());
        exit(3);
    }
    return code;
}

/* Marsaglia's xorshift (2003), doi:10.18637/jss.v008.i14: from -1 to 1. */
static double draw(void)
{
    noise ^= noise << 13;
    noise ^= noise >> 7;
    noise ^= noise << 17;
    return (double)(int64_t)noise / 9223372036854775808.0;
}

static double energy(void)
{
    double sum = 0.0;
    for (int i = 0; i < ROWS; i++)
        for (int k = 0; k < 3; k++)
            sum += 0.5 * x[i][k] * x[i][k];
    return sum;
}

static void put(void)
{
    double e = energy();
    check(hr_value(stream, "x", x, sizeof x));
    check(hr_value(stream, "energy", &e, sizeof e));
    check(hr_put(stream, step, DT * (double)step));
}

static void serve(void)
{
    hr_command *c;
    while (check(hr_poll(stream, step, DT * (double)step, &c)) == HR_OK) {
        int code = HR_OK;
        if (strcmp(hr_command_kind(c), "restart") == 0) {
            code = hr_command_load(stream, c);
            if (code == HR_OK)
                code = hr_command_array(c, "x", &x[0][0], (size_t)ROWS * 3);
        } else {
            /* The library has checked that it is declared and within its bounds. */
            temperature = hr_command_value(c);
        }
        if (code < 0)
            check(hr_refuse(stream, c, hr_last_error(), step, DT * (double)step));
        else
            check(hr_applied(stream, c, step, DT * (double)step));
    }
}

static void open_it(const char *name, const char *address, const char *every)
{
    static const char *const kinds[] = {"restart", "stop", "pause", "resume"};
    const int64_t shape[] = {ROWS, 3};
    check(hr_new(&stream, name));
    check(hr_set(stream, "stager", address));
    check(hr_set(stream, "every", every));
    check(hr_set(stream, "time_unit", "ps"));
    check(hr_declare(stream, "x", HR_FLOAT64, 2, shape, "nm", 0));
    check(hr_declare(stream, "energy", HR_FLOAT64, 0, NULL, "kJ/mol", 0));
    check(hr_capability(stream, "set", "temperature", 250.0, 400.0, "K", NULL));
    for (int i = 0; i < 4; i++)
        check(hr_capability(stream, kinds[i], NULL, -INFINITY, INFINITY, NULL, NULL));
    check(hr_capability(stream, "interval", NULL, 1, 50, NULL, NULL));
    check(hr_open(stream));
    if (hr_due(stream, 0))
        put();
}

static int advance(long steps)
{
    for (long n = 0; n < steps; n++) {
        int64_t wanted;
        int due;
        if (stream != NULL && hr_stopped(stream))
            return 0;
        for (int i = 0; i < ROWS; i++)
            for (int k = 0; k < 3; k++)
                x[i][k] += -0.01 * x[i][k] + 0.001 * sqrt(temperature) * draw();
        step++;
        if (stream == NULL)
            continue;
        due = hr_due(stream, step);
        if (due)
            put();
        if (due || (hr_next_command(stream, &wanted) == HR_OK && wanted == step))
            serve();
    }
    return stream == NULL || !hr_stopped(stream);
}

static void tell_bytes(const char *name, const char *dtype, const char *shape, const void *data,
                       size_t size, const char *end)
{
    printf("\"%s\": {\"dtype\": \"%s\", \"shape\": [%s], \"hex\": \"", name, dtype, shape);
    for (size_t i = 0; i < size; i++)
        printf("%02x", ((const unsigned char *)data)[i]);
    printf("\"}%s", end);
}

static void answer(char *line)
{
    double e = energy();
    int going = 1, code = HR_OK;
    const char *error = "";
    if (strncmp(line, "advance ", 8) == 0)
        going = advance(atol(line + 8));
    else if (strncmp(line, "close ", 6) == 0)
        code = stream == NULL ? HR_OK : hr_close(stream, atoi(line + 6));
    if (code < 0)
        error = hr_last_error();
    printf("{\"step\": %lld, \"going\": %s, \"error\": \"%s\"", (long long)step,
           going ? "true" : "false", error);
    if (strncmp(line, "read ", 5) == 0)
        printf(", \"value\": %.17g", temperature);
    if (strncmp(line, "state", 5) == 0) {
        printf(", \"arrays\": {");
        tell_bytes("x", "<f8", "6, 3", x, sizeof x, ", ");
        tell_bytes("noise", "<u8", "", &noise, sizeof noise, "}");
    }
    if (strncmp(line, "frame", 5) == 0) {
        printf(", \"arrays\": {");
        tell_bytes("x", "<f8", "6, 3", x, sizeof x, ", ");
        tell_bytes("energy", "<f8", "", &e, sizeof e, "}");
    }
    printf("}\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char line[256] = "ready";
    if (argc != 5)
        return 2;
    for (int i = 0; i < ROWS; i++)
        for (int k = 0; k < 3; k++)
            x[i][k] = draw();
    if (strcmp(argv[2], "-") != 0)
        open_it(argv[1], argv[2], argv[3]);
    do
        answer(line);
    while (fgets(line, sizeof line, stdin) != NULL);
    hr_free(&stream);
    return 0;
}
