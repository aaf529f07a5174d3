/*
 * The simulation's end of the command channel: which command is due, and what is answered.
 * Each id is answered once, however often it is delivered. The same rules and words as
 * bridge/steering/channel.py and bounds.py.
 */
#include "internal.h"

#include <stdio.h>

/* ------------------------------------------------------------------------ ids seen */

static bool remember_hash(hr_channel *c, uint64_t hash)
{
    size_t mask = c->seen_room - 1, at = (size_t)hash & mask;
    for (; c->seen[at] != 0; at = (at + 1) & mask)
        if (c->seen[at] == hash)
            return false;
    c->seen[at] = hash;
    c->n_seen++;
    return true;
}

bool hr_channel_remember(hr_channel *c, const char *id, size_t size)
{
    uint64_t hash = hr_hash(id, size);
    if (2 * (c->n_seen + 1) > c->seen_room) {
        size_t room = c->seen_room ? 2 * c->seen_room : 256, before = c->seen_room;
        uint64_t *old = c->seen, *grown = calloc(room, sizeof *grown);
        if (grown == NULL)
            return true; /* without memory a repeat is better than a command that is lost */
        c->seen = grown;
        c->seen_room = room;
        c->n_seen = 0;
        for (size_t i = 0; i < before; i++)
            if (old[i] != 0)
                remember_hash(c, old[i]);
        free(old);
    }
    return remember_hash(c, hash ? hash : 1);
}

/* ------------------------------------------------------------------------- commands */

void hr_command_free(hr_command *command)
{
    if (command == NULL)
        return;
    free(command->data);
    free(command->id);
    free(command->kind);
    free(command->simulation);
    free(command->parameter);
    free(command->frame_simulation);
    hr_state_free(&command->arrays);
    free(command);
}

static void read_frame(hr_command *c, hr_reader *r)
{
    size_t n = hr_read_map(r);
    for (size_t i = 0; i < n && !r->failed; i++) {
        hr_span key = hr_read_text(r);
        if (hr_span_is(key, "simulation") && c->frame_simulation == NULL)
            c->frame_simulation = hr_span_copy(hr_read_text(r));
        else if (hr_span_is(key, "offset"))
            c->frame_offset = hr_read_int(r);
        else
            hr_read_any(r);
    }
    c->has_frame = c->frame_simulation != NULL;
}

static void take_text(char **out, hr_reader *r)
{
    hr_span text = hr_read_text(r);
    if (!r->failed && *out == NULL)
        *out = hr_span_copy(text);
}

hr_command *hr_command_decode(hr_span data)
{
    hr_command *c = calloc(1, sizeof *c);
    uint8_t *copy = (uint8_t *)hr_copy_span((const char *)data.data, data.size);
    if (c == NULL || copy == NULL) {
        free(c);
        free(copy);
        return NULL;
    }
    c->data = copy;
    c->size = data.size;
    c->value = NAN;
    hr_reader r = hr_reader_of(c->data, c->size);
    size_t n = hr_read_map(&r);
    for (size_t i = 0; i < n && !r.failed; i++) {
        hr_span key = hr_read_text(&r);
        if (hr_read_nil(&r))
            continue;
        if (hr_span_is(key, "id"))
            take_text(&c->id, &r);
        else if (hr_span_is(key, "kind"))
            take_text(&c->kind, &r);
        else if (hr_span_is(key, "simulation"))
            take_text(&c->simulation, &r);
        else if (hr_span_is(key, "parameter"))
            take_text(&c->parameter, &r);
        else if (hr_span_is(key, "value")) {
            c->value = hr_read_double(&r);
            c->has_value = true;
        } else if (hr_span_is(key, "expires"))
            c->expires = hr_read_double(&r);
        else if (hr_span_is(key, "at_step")) {
            c->at_step = hr_read_int(&r);
            c->has_step = true;
        } else if (hr_span_is(key, "state"))
            c->state = hr_read_text(&r);
        else if (hr_span_is(key, "frame"))
            read_frame(c, &r);
        else
            hr_read_any(&r);
    }
    char **texts[] = {&c->id, &c->kind, &c->simulation, &c->parameter};
    bool good = !r.failed && c->kind != NULL && c->simulation != NULL;
    for (int i = 0; i < 4 && good; i++) {
        if (*texts[i] == NULL)
            *texts[i] = hr_copy("");
        good = *texts[i] != NULL;
    }
    if (!good) {
        hr_command_free(c);
        return NULL;
    }
    return c;
}

static void push(hr_command **list, hr_command *command)
{
    while (*list != NULL)
        list = &(*list)->next;
    command->next = NULL;
    *list = command;
}

/* Take a command in; false if it was answered before, so that its offset needs no waiting for. */
bool hr_channel_deliver(hr_channel *c, hr_command *command)
{
    const hr_command *lists[] = {c->open, c->ready, c->waiting};
    bool pending = false;
    c->delivered++;
    if (hr_channel_remember(c, command->id, strlen(command->id))) {
        push(&c->waiting, command);
        return true;
    }
    c->repeated++;
    for (int i = 0; i < 3; i++)
        for (const hr_command *m = lists[i]; m != NULL; m = m->next)
            pending = pending || strcmp(m->id, command->id) == 0;
    hr_command_free(command);
    return pending;
}

bool hr_channel_take(hr_channel *c, hr_command *command)
{
    for (hr_command **at = &c->open; *at != NULL; at = &(*at)->next)
        if (*at == command) {
            *at = command->next;
            return true;
        }
    return false;
}

/* ---------------------------------------------------------------------------- bounds */

/* The distinct kinds that are declared, or the parameters that may be set, in order. */
static void list_declared(const hr_channel *c, bool parameters, char *out, size_t size)
{
    const char *last = "";
    size_t used = 0;
    out[0] = 0;
    for (;;) {
        const char *next = NULL;
        for (size_t i = 0; i < c->n_capabilities; i++) {
            const hr_capability_entry *e = &c->capabilities[i];
            const char *name = parameters ? e->parameter : e->kind;
            if ((!parameters || strcmp(e->kind, "set") == 0) && strcmp(name, last) > 0 &&
                (next == NULL || strcmp(name, next) < 0))
                next = name;
        }
        if (next == NULL || used >= size - 1)
            return;
        used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", next);
        last = next;
    }
}

static void find_value_fault(const hr_command *m, const hr_capability_entry *e, const char *what,
                             char *out)
{
    /* "1" is how many codes say that something has no unit. */
    const char *unit = strcmp(e->unit, "1") ? e->unit : "", *space = *unit ? " " : "";
    if (!m->has_value)
        snprintf(out, HR_TEXT, "The command to change the %s carries no value.", what);
    else if (!isfinite(m->value))
        snprintf(out, HR_TEXT, "The value %g of the %s is not a finite number.", m->value, what);
    else if (m->value < e->minimum)
        snprintf(out, HR_TEXT, "The %s of %g%s%s is below the declared minimum of %g%s%s.", what,
                 m->value, space, unit, e->minimum, space, unit);
    else if (m->value > e->maximum)
        snprintf(out, HR_TEXT, "The %s of %g%s%s is above the declared maximum of %g%s%s.", what,
                 m->value, space, unit, e->maximum, space, unit);
}

static void find_bound_fault(const hr_channel *c, const hr_command *m, char *out)
{
    const hr_capability_entry *same_kind = NULL, *same = NULL;
    char declared[512];
    for (size_t i = c->n_capabilities; i-- > 0;)
        if (strcmp(c->capabilities[i].kind, m->kind) == 0) {
            same_kind = &c->capabilities[i];
            if (strcmp(same_kind->parameter, m->parameter) == 0)
                same = same_kind;
        }
    if (same_kind == NULL) {
        list_declared(c, false, declared, sizeof declared);
        snprintf(out, HR_TEXT, "The simulation '%s' does not accept '%.64s'; it declares %s.",
                 c->simulation, m->kind, *declared ? declared : "nothing");
    } else if (strcmp(m->kind, "set") == 0 && same == NULL) {
        list_declared(c, true, declared, sizeof declared);
        snprintf(out, HR_TEXT, "The simulation '%s' lets nobody set '%.128s'; it lets others set "
                               "%s.", c->simulation, m->parameter, declared);
    } else if (strcmp(m->kind, "set") == 0)
        find_value_fault(m, same, m->parameter, out);
    else if (strcmp(m->kind, "interval") == 0) {
        if (m->has_value && isfinite(m->value) && (m->value < 1 || m->value != floor(m->value)))
            snprintf(out, HR_TEXT, "The output interval is a whole number of steps above 0, not %g.",
                     m->value);
        else
            find_value_fault(m, same_kind, "output interval", out);
    } else if (strcmp(m->kind, "restart") == 0 && !m->has_frame && m->state.size == 0)
        snprintf(out, HR_TEXT, "The restart names no frame and carries no state; one of the two is "
                               "needed.");
}

static void find_fault(const hr_channel *c, const hr_command *m, int64_t step, char *out)
{
    bool now = !m->has_step || m->at_step == step;
    out[0] = 0;
    if (strcmp(m->simulation, c->simulation) != 0)
        snprintf(out, HR_TEXT, "The command is for '%.128s'; this is '%s'.", m->simulation,
                 c->simulation);
    else if (c->stopped)
        snprintf(out, HR_TEXT, "The simulation '%s' was stopped.", c->simulation);
    else if (m->has_step && m->at_step < step)
        snprintf(out, HR_TEXT, "The command was to be applied at step %lld; the simulation is at "
                               "step %lld already.", (long long)m->at_step, (long long)step);
    else if (strcmp(m->kind, "pause") == 0 && c->paused && now)
        snprintf(out, HR_TEXT, "The simulation is paused already.");
    else if (strcmp(m->kind, "resume") == 0 && !c->paused && now)
        snprintf(out, HR_TEXT, "The simulation is not paused.");
    else
        find_bound_fault(c, m, out);
}

/* --------------------------------------------------------------------------- answers */

/* A text that was cut off within a character could not be read by anybody. */
static char *readable(const char *text)
{
    char *out = hr_copy(text);
    if (out != NULL && !hr_is_utf8(out))
        for (char *p = out; *p; p++)
            if ((uint8_t)*p >= 0x80)
                *p = '?';
    return out;
}

/* Write the acknowledgement, and free the command. */
void hr_channel_answer(hr_channel *c, hr_command *m, const char *outcome, const char *reason,
                       int64_t step, double time, double now)
{
    hr_answer *answer = calloc(1, sizeof *answer), **at = &c->answers;
    c->applied += strcmp(outcome, "applied") == 0;
    c->refused += strcmp(outcome, "refused") == 0;
    c->expired += strcmp(outcome, "expired") == 0;
    if (answer != NULL) {
        hr_buffer *b = &answer->data;
        hr_write_map(b, *reason ? 8 : 7);
        hr_write_text(b, "command");
        hr_write_text(b, m->id);
        hr_write_text(b, "simulation");
        hr_write_text(b, c->simulation);
        hr_write_text(b, "outcome");
        hr_write_text(b, outcome);
        hr_write_text(b, "step");
        hr_write_int(b, step);
        hr_write_text(b, "time");
        hr_write_double(b, time);
        if (*reason) {
            char *text = readable(reason);
            hr_write_text(b, "reason");
            hr_write_text(b, text == NULL ? "" : text);
            free(text);
        }
        hr_write_text(b, "incarnation");
        hr_write_int(b, c->incarnation);
        hr_write_text(b, "stamp");
        hr_write_double(b, now);
        answer->id = m->id;
        m->id = NULL;
        while (*at != NULL)
            at = &(*at)->next;
        *at = answer;
    }
    hr_command_free(m);
}

void hr_channel_judge(hr_channel *c, int64_t step, double time, double now)
{
    hr_command *waiting = c->waiting, *m;
    char text[HR_TEXT];
    c->waiting = NULL;
    while ((m = waiting) != NULL) {
        waiting = m->next;
        find_fault(c, m, step, text);
        if (m->expires != 0.0 && now > m->expires) {
            snprintf(text, sizeof text, "The command expired %.3g s before step %lld.",
                     now - m->expires, (long long)step);
            hr_channel_answer(c, m, "expired", text, step, time, now);
        } else if (*text)
            hr_channel_answer(c, m, "refused", text, step, time, now);
        else if (m->has_step && m->at_step > step)
            push(&c->waiting, m);
        else if (strcmp(m->kind, "set") == 0 || strcmp(m->kind, "restart") == 0)
            push(&c->ready, m);
        else {
            if (strcmp(m->kind, "interval") == 0)
                c->every = m->value < 9e18 ? (int64_t)m->value : INT64_MAX;
            else {
                c->paused = strcmp(m->kind, "pause") == 0;
                c->stopped = strcmp(m->kind, "stop") == 0;
            }
            hr_channel_answer(c, m, "applied", "", step, time, now);
        }
    }
}

/* Refuse whatever has no answer, because the simulation ends at this step. */
void hr_channel_end(hr_channel *c, int64_t step, double time, double now)
{
    hr_command **lists[] = {&c->open, &c->ready, &c->waiting}, *m;
    char text[128];
    snprintf(text, sizeof text, "The simulation ended at step %lld before it could apply the "
                                "command.", (long long)step);
    for (int i = 0; i < 3; i++)
        while ((m = *lists[i]) != NULL) {
            *lists[i] = m->next;
            hr_channel_answer(c, m, "refused", text, step, time, now);
        }
}

void hr_channel_free(hr_channel *c)
{
    hr_command **lists[] = {&c->open, &c->ready, &c->waiting}, *m;
    for (int i = 0; i < 3; i++)
        while ((m = *lists[i]) != NULL) {
            *lists[i] = m->next;
            hr_command_free(m);
        }
    while (c->answers != NULL) {
        hr_answer *next = c->answers->next;
        hr_buffer_free(&c->answers->data);
        free(c->answers->id);
        free(c->answers);
        c->answers = next;
    }
    free(c->seen);
    memset(c, 0, sizeof *c);
}
