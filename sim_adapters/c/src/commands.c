/* Taking commands, answering them, and reading what they carry. */
#include "internal.h"

#include <stdio.h>
#include <time.h>

#define LOOK_UP 1.0   /* seconds between two looks at expiries while the simulation is paused */
#define REMIND 60.0   /* seconds after which people are told again that it is paused */

static int check_open(hr_stream *s, const char *what)
{
    if (s == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "%s needs a stream.", what);
    if (!s->is_open || s->is_closed)
        return hr_fail(HR_ERROR_STATE, "%s needs a stream that is open; that of '%s' is not.", what,
                       s->simulation);
    return HR_OK;
}

/* Whether hr_poll has something to look at: a put that waited for room may have taken it in. */
static bool has_command(const hr_stream *s)
{
    return s->arrived != NULL || s->channel.ready != NULL;
}

/* Wait for a command; wants the lock. */
static bool wait_for_command(hr_stream *s, double seconds)
{
    double end = hr_monotonic() + (seconds < 1e9 ? seconds : 1e9);
    struct timespec until;
    until.tv_sec = (time_t)end;
    until.tv_nsec = (long)((end - (double)until.tv_sec) * 1e9);
    while (!has_command(s) && !s->failure)
        if (pthread_cond_timedwait(&s->changed, &s->lock, &until) != 0)
            break;
    return has_command(s);
}

static void tell_paused(hr_stream *s, int64_t step, double waited)
{
    char text[HR_TEXT];
    hr_buffer b = {0};
    snprintf(text, sizeof text, "The simulation '%s' waits at step %lld for a resume or a stop, for "
                                "%.0f s so far.", s->simulation, (long long)step, waited);
    const char *fields[] = {"kind", "paused", "message", text, "simulation", s->simulation, "source",
                            "channel"};
    hr_write_map(&b, 6);
    for (int i = 0; i < 8; i++)
        hr_write_text(&b, fields[i]);
    hr_write_text(&b, "stamp");
    hr_write_double(&b, hr_now());
    hr_write_text(&b, "data");
    hr_write_map(&b, 2);
    hr_write_text(&b, "step");
    hr_write_int(&b, step);
    hr_write_text(&b, "seconds");
    hr_write_double(&b, waited);
    hr_append_record(s, "events", &b);
}

/* Deliver what arrived and judge what waits; wants the lock. */
static void look(hr_stream *s, int64_t step, double time)
{
    hr_take_arrived(s);
    hr_channel_judge(&s->channel, step, time, hr_now());
    hr_send_answers(s);
}

int hr_poll(hr_stream *s, int64_t step, double time, hr_command **command)
{
    int code = check_open(s, "hr_poll");
    if (command != NULL)
        *command = NULL;
    if (code < 0)
        return code;
    if (command == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_poll needs a place for the command.");
    double began = hr_monotonic(), told = -1.0;
    pthread_mutex_lock(&s->lock);
    hr_channel *c = &s->channel;
    for (;;) {
        if (c->ready == NULL)
            look(s, step, time);
        if (c->ready != NULL || !c->paused || c->stopped)
            break;
        if (s->failure) {
            code = hr_fail(s->failure, "%s", s->failure_text);
            break;
        }
        double waited = hr_monotonic() - began;
        if (told < 0.0 || waited - told >= REMIND) {
            told = waited;
            tell_paused(s, step, waited);
        }
        wait_for_command(s, LOOK_UP);
    }
    if (c->ready != NULL) {
        hr_command *found = c->ready;
        c->ready = found->next;
        found->next = c->open;
        c->open = found;
        *command = found;
    }
    pthread_mutex_unlock(&s->lock);
    return code < 0 ? code : *command != NULL ? HR_OK : HR_NONE;
}

static int answer(hr_stream *s, hr_command *command, const char *outcome, const char *reason,
                  int64_t step, double time)
{
    bool is_restart = false;
    pthread_mutex_lock(&s->lock);
    if (!hr_channel_take(&s->channel, command)) {
        pthread_mutex_unlock(&s->lock);
        return hr_fail(HR_ERROR_COMMAND, "The command was answered already, or is none that hr_poll "
                                         "handed out.");
    }
    is_restart = strcmp(command->kind, "restart") == 0;
    hr_channel_answer(&s->channel, command, outcome, reason, step, time, hr_now());
    if (is_restart && *reason == 0)
        s->channel.epoch++;
    hr_send_answers(s);
    pthread_mutex_unlock(&s->lock);
    return HR_OK;
}

int hr_applied(hr_stream *s, hr_command *command, int64_t step, double time)
{
    int code = check_open(s, "hr_applied");
    return code < 0 ? code : answer(s, command, "applied", "", step, time);
}

int hr_refuse(hr_stream *s, hr_command *command, const char *reason, int64_t step, double time)
{
    int code = check_open(s, "hr_refuse");
    bool given = reason != NULL && *reason;
    return code < 0 ? code : answer(s, command, "refused",
                                    given ? reason : "The simulation gave no reason.", step, time);
}

int hr_wait(hr_stream *s, double seconds)
{
    int code = check_open(s, "hr_wait");
    if (code < 0)
        return code;
    pthread_mutex_lock(&s->lock);
    code = wait_for_command(s, seconds > 0.0 ? seconds : 0.0) ? HR_OK : HR_NONE;
    if (code == HR_NONE && s->failure)
        code = hr_fail(s->failure, "%s", s->failure_text);
    pthread_mutex_unlock(&s->lock);
    return code;
}

int hr_stopped(hr_stream *s)
{
    if (s == NULL)
        return 0;
    pthread_mutex_lock(&s->lock);
    int out = s->channel.stopped;
    pthread_mutex_unlock(&s->lock);
    return out;
}

int64_t hr_every(hr_stream *s)
{
    if (s == NULL)
        return 1;
    pthread_mutex_lock(&s->lock);
    int64_t out = s->channel.every;
    pthread_mutex_unlock(&s->lock);
    return out;
}

int32_t hr_epoch(hr_stream *s)
{
    if (s == NULL)
        return 0;
    pthread_mutex_lock(&s->lock);
    int32_t out = s->channel.epoch;
    pthread_mutex_unlock(&s->lock);
    return out;
}

int hr_next_command(hr_stream *s, int64_t *step)
{
    int code = check_open(s, "hr_next_command");
    if (code < 0 || step == NULL)
        return code < 0 ? code : hr_fail(HR_ERROR_ARGUMENT, "hr_next_command needs a place.");
    code = HR_NONE;
    pthread_mutex_lock(&s->lock);
    for (const hr_command *m = s->channel.waiting; m != NULL; m = m->next)
        if (m->has_step && (code == HR_NONE || m->at_step < *step)) {
            *step = m->at_step;
            code = HR_OK;
        }
    pthread_mutex_unlock(&s->lock);
    return code;
}

/* ---------------------------------------------------------------- what they carry */

const char *hr_command_id(const hr_command *command)
{
    return command == NULL ? "" : command->id;
}

const char *hr_command_kind(const hr_command *command)
{
    return command == NULL ? "" : command->kind;
}

const char *hr_command_parameter(const hr_command *command)
{
    return command == NULL ? "" : command->parameter;
}

double hr_command_value(const hr_command *command)
{
    return command == NULL ? NAN : command->value;
}

/* Find an entry of a map; a reader without bytes if it is not there. */
static hr_reader find_entry(hr_span map, const char *name)
{
    hr_reader r = hr_reader_of(map.data, map.size);
    size_t n = map.size ? hr_read_map(&r) : 0;
    for (size_t i = 0; i < n && !r.failed; i++) {
        hr_span key = hr_read_text(&r);
        if (!r.failed && hr_span_is(key, name))
            return r;
        hr_read_any(&r);
    }
    return hr_reader_of(NULL, 0);
}

static int read_state(hr_command *c)
{
    if (c->is_read || c->state.size == 0)
        return HR_OK;
    int code = hr_decode_state(&c->arrays, c->state);
    c->is_read = code == HR_OK;
    return code;
}

/* Where a name is: an array, or a value in MessagePack. Fields come first, then the evidence. */
static int find(const hr_command *command, const char *name, hr_reader *value,
                const hr_array **array)
{
    hr_command *c = (hr_command *)command; /* the state is read at the first look */
    *array = NULL;
    if (c == NULL || name == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "A command and a name are needed.");
    hr_span whole = {c->data, c->size};
    *value = find_entry(whole, name);
    bool hidden = strcmp(name, "state") == 0 || strcmp(name, "evidence") == 0 ||
                  strcmp(name, "frame") == 0;
    if (!hidden && value->at < value->end)
        return HR_OK;
    hr_reader evidence = find_entry(whole, "evidence");
    if (evidence.at < evidence.end) {
        hr_span entries = hr_read_any(&evidence);
        *value = find_entry(entries, name);
        if (value->at < value->end)
            return HR_OK;
    }
    int code = read_state(c);
    if (code < 0)
        return code;
    *value = find_entry(c->arrays.plain, name);
    if (value->at < value->end)
        return HR_OK;
    for (size_t i = 0; i < c->arrays.n; i++)
        if (strcmp(c->arrays.arrays[i].name, name) == 0) {
            *array = &c->arrays.arrays[i];
            return HR_OK;
        }
    return hr_fail(HR_ERROR_COMMAND, "The command '%.128s' has nothing called '%.128s'%s.", c->id,
                   hr_is_utf8(name) ? name : "(not UTF-8)",
                   c->has_frame && !c->is_read ? "; call hr_command_load for the arrays of its frame"
                                               : "");
}

static int wrong_kind(const hr_command *c, const char *name, const char *wanted)
{
    return hr_fail(HR_ERROR_COMMAND, "'%.128s' of the command '%.128s' is not %s.", name, c->id,
                   wanted);
}

int hr_command_number(const hr_command *command, const char *name, double *value)
{
    hr_reader r;
    const hr_array *array;
    int code = find(command, name, &r, &array);
    if (code < 0)
        return code;
    if (value == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_command_number needs a place for the number.");
    if (array != NULL)
        return array->count == 1 ? hr_array_doubles(array, value)
                                 : wrong_kind(command, name, "a single number");
    if (!hr_is_number(&r))
        return wrong_kind(command, name, "a number");
    *value = hr_read_double(&r);
    return HR_OK;
}

int64_t hr_command_text(const hr_command *command, const char *name, char *text, size_t size)
{
    hr_reader r;
    const hr_array *array;
    int code = find(command, name, &r, &array);
    if (code < 0)
        return code;
    if (array != NULL || !hr_is_text(&r))
        return wrong_kind(command, name, "text");
    hr_span found = hr_read_text(&r);
    if (text != NULL && size > 0) {
        size_t n = found.size < size - 1 ? found.size : size - 1;
        memcpy(text, found.data, n);
        text[n] = 0;
    }
    return (int64_t)found.size;
}

int64_t hr_command_count(const hr_command *command, const char *name)
{
    hr_reader r;
    const hr_array *array;
    int code = find(command, name, &r, &array);
    if (code < 0)
        return code;
    if (array != NULL)
        return (int64_t)array->count;
    return hr_is_array(&r) ? (int64_t)hr_read_array(&r) : 1;
}

int hr_command_array(const hr_command *command, const char *name, double *values, size_t count)
{
    hr_reader r;
    const hr_array *array;
    int code = find(command, name, &r, &array);
    if (code < 0)
        return code;
    if (values == NULL && count > 0)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_command_array needs a place for the numbers.");
    size_t found = array != NULL ? array->count : hr_is_array(&r) ? hr_read_array(&r) : 1;
    if (found != count)
        return hr_fail(HR_ERROR_COMMAND, "'%.128s' of the command '%.128s' has %zu elements; this "
                                         "simulation needs %zu.", name, command->id, found, count);
    if (array != NULL)
        return hr_array_doubles(array, values);
    for (size_t i = 0; i < count; i++) {
        if (!hr_is_number(&r))
            return wrong_kind(command, name, "an array of numbers");
        values[i] = hr_read_double(&r);
        if (!isfinite(values[i]))
            return hr_fail(HR_ERROR_COMMAND, "'%.128s' of the command '%.128s' has values that are "
                                             "not finite.", name, command->id);
    }
    return HR_OK;
}

int hr_command_load(hr_stream *s, hr_command *command)
{
    int code = check_open(s, "hr_command_load");
    if (code < 0)
        return code;
    if (command == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_command_load needs a command.");
    if (command->is_read)
        return HR_OK;
    if (command->state.size > 0)
        return read_state(command);
    if (!command->has_frame)
        return hr_fail(HR_ERROR_COMMAND, "The command '%.128s' names no frame and carries no state.",
                       command->id);
    code = hr_read_frame(s, command->frame_simulation, command->frame_offset, &command->arrays);
    command->is_read = code == HR_OK;
    return code;
}
