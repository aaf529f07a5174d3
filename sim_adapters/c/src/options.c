/* The options of a stream. */
#include "internal.h"

#include <stdio.h>

static int bad_number(const char *option, double value, const char *wanted)
{
    return hr_fail(HR_ERROR_ARGUMENT, "The option '%s' is %g; it must be %s.", option, value,
                   wanted);
}

static bool is_whole(double value, double least)
{
    return value >= least && value <= 9e15 && value == floor(value);
}

static int set_seconds(double *field, const char *option, double value)
{
    if (!(value >= 0.0) || value > 1e9)
        return bad_number(option, value, "a number of seconds, 0 or more");
    *field = value;
    return HR_OK;
}

static int set_every(hr_stream *s, double value)
{
    if (!is_whole(value, 1))
        return bad_number("every", value, "a whole number of steps, 1 or more");
    s->channel.every = (int64_t)value;
    return HR_OK;
}

static int set_while_open(hr_stream *s, const char *option, double value)
{
    if (strcmp(option, "every") == 0)
        return set_every(s, value);
    if (strcmp(option, "timeout") == 0)
        return set_seconds(&s->timeout, option, value);
    if (strcmp(option, "patience") == 0)
        return set_seconds(&s->patience, option, value);
    if (strcmp(option, "linger") == 0)
        return set_seconds(&s->linger, option, value);
    return HR_NONE;
}

static int set_whole(hr_stream *s, const char *option, double value)
{
    const struct {
        const char *name;
        int64_t *field;
        double least;
    } whole[] = {
        {"rank", &s->rank, 0},
        {"ranks", &s->schema.n_ranks, 1},
        {"capacity", &s->options.capacity, 1},
        {"segment", &s->options.segment, 0},
        {"keep", &s->options.keep, 0},
    };
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (strcmp(option, whole[i].name) == 0) {
            if (!is_whole(value, whole[i].least))
                return bad_number(option, value, whole[i].least > 0 ? "a whole number above 0"
                                                                    : "a whole number, 0 or more");
            *whole[i].field = (int64_t)value;
            return HR_OK;
        }
    return hr_fail(HR_ERROR_ARGUMENT, "There is no option '%.64s' with a number; headrace.h lists "
                                      "the options.", hr_is_utf8(option) ? option : "(not UTF-8)");
}

int hr_set_number(hr_stream *s, const char *option, double value)
{
    if (s == NULL || option == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_set_number needs a stream and an option.");
    pthread_mutex_lock(&s->lock);
    int code = set_while_open(s, option, value);
    pthread_mutex_unlock(&s->lock);
    if (code != HR_NONE)
        return code;
    code = hr_check_new(s, "hr_set_number");
    return code < 0 ? code : set_whole(s, option, value);
}

static int set_policy(hr_stream *s, const char *value)
{
    static const char *const policies[] = {"block", "drop_oldest", "drop_newest", "latest"};
    for (int i = 0; i < 4; i++)
        if (strcmp(value, policies[i]) == 0) {
            snprintf(s->options.when_full, sizeof s->options.when_full, "%s", value);
            return HR_OK;
        }
    return hr_fail(HR_ERROR_ARGUMENT, "The policy '%.64s' is unknown; there are block, drop_oldest, "
                                      "drop_newest and latest.", value);
}

static int set_mapped(hr_stream *s, const char *value)
{
    static const char *const words[] = {"auto", "no", "yes"};
    for (int i = 0; i < 3; i++)
        if (strcmp(value, words[i]) == 0) {
            s->wanted = i - 1;
            return HR_OK;
        }
    return hr_fail(HR_ERROR_ARGUMENT, "The option 'mapped' is '%.64s'; it must be auto, yes or no.",
                   value);
}

static int set_job(hr_stream *s, const char *value)
{
    char digits[33];
    int code = *value ? hr_check_name(value, "job") : HR_OK;
    if (code < 0)
        return code;
    memcpy(digits, s->token + strlen(s->token) - 32, sizeof digits);
    snprintf(s->token, sizeof s->token, "%s%s%s", value, *value ? ":" : "", digits);
    return HR_OK;
}

int hr_make_job(char *word, size_t size)
{
    if (word == NULL || size < HR_JOB_SIZE)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_make_job needs a place of HR_JOB_SIZE bytes.");
    return hr_random_hex(word, 16) ? HR_OK
                                   : hr_fail(HR_ERROR_MEMORY, "The system has no random numbers.");
}

int hr_set(hr_stream *s, const char *option, const char *value)
{
    if (s == NULL || option == NULL || value == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_set needs a stream, an option and a value.");
    const struct {
        const char *name;
        char **field;
    } texts[] = {
        {"stager", &s->stager},
        {"run_directory", &s->run_directory},
        {"keys", &s->keys},
        {"time_unit", &s->schema.time_unit},
        {"selection", &s->schema.selection},
    };
    int code = hr_check_text(value, "value of an option");
    for (size_t i = 0; i < sizeof texts / sizeof *texts && code == HR_OK; i++)
        if (strcmp(option, texts[i].name) == 0) {
            code = hr_check_new(s, "hr_set");
            return code < 0 ? code : hr_replace(texts[i].field, value);
        }
    static const struct {
        const char *name;
        int (*set)(hr_stream *s, const char *value);
    } words[] = {{"when_full", set_policy}, {"mapped", set_mapped}, {"job", set_job}};
    for (size_t i = 0; i < sizeof words / sizeof *words && code == HR_OK; i++)
        if (strcmp(option, words[i].name) == 0) {
            code = hr_check_new(s, "hr_set");
            return code < 0 ? code : words[i].set(s, value);
        }
    if (code < 0)
        return code;
    char *end;
    double number = strtod(value, &end);
    if (*value == 0 || *end != 0)
        return hr_fail(HR_ERROR_ARGUMENT, "There is no option '%.64s' that takes the text '%.64s'; "
                                          "headrace.h lists the options.",
                       hr_is_utf8(option) ? option : "(not UTF-8)", value);
    return hr_set_number(s, option, number);
}

