/* What a stream carries, and how that is written and read. */
#include "internal.h"

#include <stdio.h>

int hr_dtype_parse(const char *dtype, char out[16], uint32_t *itemsize)
{
    const char *p = dtype == NULL ? "" : dtype;
    char *end = NULL;
    if (*p == '<' || *p == '|' || *p == '=')
        p++;
    char kind = *p;
    unsigned long size = kind && p[1] >= '1' && p[1] <= '9' ? strtoul(p + 1, &end, 10) : 0;
    bool known = false;
    if (size && end != NULL && *end == 0) {
        bool is_power = (size & (size - 1)) == 0;
        known = (kind == 'b' && size == 1) ||
                ((kind == 'i' || kind == 'u') && is_power && size <= 8) ||
                (kind == 'f' && is_power && size >= 2 && size <= 8) ||
                (kind == 'c' && is_power && size >= 8 && size <= 16) ||
                (kind == 'S' && size <= 1000000);
    }
    if (!known)
        return hr_fail(HR_ERROR_ARGUMENT,
                       "The dtype '%.32s' cannot be sent; use one of the HR_ constants, or a "
                       "little-endian NumPy type string such as '<f4'.",
                       dtype == NULL ? "(NULL)" : hr_is_utf8(dtype) ? dtype : "(not UTF-8)");
    snprintf(out, 16, "%c%c%u", size == 1 || kind == 'S' ? '|' : '<', kind, (unsigned)size);
    *itemsize = (uint32_t)size;
    return HR_OK;
}

hr_variable *hr_schema_find(hr_schema *schema, const char *name)
{
    for (size_t i = 0; name != NULL && i < schema->n_variables; i++)
        if (strcmp(schema->variables[i].name, name) == 0)
            return &schema->variables[i];
    return NULL;
}

uint64_t hr_variable_bytes(const hr_variable *v, int64_t lead)
{
    uint64_t out = v->itemsize;
    for (int i = 0; i < v->ndim; i++) {
        uint64_t n = (uint64_t)(i == 0 && v->decomposed && lead >= 0 ? lead : v->shape[i]);
        if (n != 0 && out > UINT64_MAX / 2 / n)
            return UINT64_MAX / 2;
        out *= n;
    }
    return out;
}

uint64_t hr_schema_bytes(const hr_schema *schema)
{
    uint64_t out = 0;
    for (size_t i = 0; i < schema->n_variables; i++) {
        uint64_t more = hr_variable_bytes(&schema->variables[i], -1);
        out = more > UINT64_MAX / 2 - out ? UINT64_MAX / 2 : out + more;
    }
    return out;
}

static void free_texts(char **texts, size_t n)
{
    for (size_t i = 0; texts != NULL && i < n; i++)
        free(texts[i]);
    free(texts);
}

void hr_schema_free(hr_schema *schema)
{
    for (size_t i = 0; i < schema->n_variables; i++) {
        free(schema->variables[i].unit);
        free(schema->variables[i].description);
    }
    for (size_t i = 0; i < schema->n_attributes; i++) {
        free(schema->attributes[i].name);
        free(schema->attributes[i].value);
    }
    free(schema->variables);
    free(schema->attributes);
    free(schema->time_unit);
    free(schema->selection);
    free_texts(schema->names, schema->n_particles);
    free_texts(schema->elements, schema->n_particles);
    free_texts(schema->residues, schema->n_particles);
    free(schema->residue_ids);
    free(schema->bonds);
    free(schema->masses);
    memset(schema, 0, sizeof *schema);
}

void hr_capabilities_free(hr_capability_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(entries[i].kind);
        free(entries[i].parameter);
        free(entries[i].unit);
        free(entries[i].description);
    }
    free(entries);
}

/* ------------------------------------------------------------------------------ writing */

static void write_field(hr_buffer *b, const char *name, const char *text)
{
    if (text != NULL && *text) {
        hr_write_text(b, name);
        hr_write_text(b, text);
    }
}

static size_t given(const char *text)
{
    return text != NULL && *text ? 1 : 0;
}

static void write_variable(hr_buffer *b, const hr_variable *v)
{
    hr_write_map(b, 2 + (size_t)(v->ndim > 0) + given(v->unit) + (size_t)v->decomposed +
                        given(v->description));
    write_field(b, "name", v->name);
    write_field(b, "dtype", v->dtype);
    if (v->ndim > 0) {
        hr_write_text(b, "shape");
        hr_write_array(b, (size_t)v->ndim);
        for (int i = 0; i < v->ndim; i++)
            hr_write_int(b, v->shape[i]);
    }
    write_field(b, "unit", v->unit);
    if (v->decomposed) {
        hr_write_text(b, "decomposed");
        hr_write_bool(b, true);
    }
    write_field(b, "description", v->description);
}

static void write_texts(hr_buffer *b, const char *name, char *const *texts, size_t n)
{
    if (texts == NULL)
        return;
    hr_write_text(b, name);
    hr_write_array(b, n);
    for (size_t i = 0; i < n; i++)
        hr_write_text(b, texts[i]);
}

static void write_topology(hr_buffer *b, const hr_schema *s)
{
    size_t n = s->n_particles;
    hr_write_text(b, "topology");
    hr_write_map(b, (size_t)(s->names != NULL) + (s->elements != NULL) + (s->residues != NULL) +
                        (s->residue_ids != NULL) + (s->bonds != NULL) + (s->masses != NULL));
    write_texts(b, "names", s->names, n);
    write_texts(b, "elements", s->elements, n);
    write_texts(b, "residues", s->residues, n);
    if (s->residue_ids != NULL) {
        hr_write_text(b, "residue_ids");
        hr_write_array(b, n);
        for (size_t i = 0; i < n; i++)
            hr_write_int(b, s->residue_ids[i]);
    }
    if (s->bonds != NULL) {
        hr_write_text(b, "bonds");
        hr_write_array(b, s->n_bonds);
        for (size_t i = 0; i < s->n_bonds; i++) {
            hr_write_array(b, 2);
            hr_write_int(b, s->bonds[2 * i]);
            hr_write_int(b, s->bonds[2 * i + 1]);
        }
    }
    if (s->masses != NULL) {
        hr_write_text(b, "masses");
        hr_write_array(b, n);
        for (size_t i = 0; i < n; i++)
            hr_write_double(b, s->masses[i]);
    }
}

void hr_write_schema(hr_buffer *b, const hr_schema *s)
{
    bool particles = s->names || s->elements || s->residues || s->residue_ids || s->bonds ||
                     s->masses;
    hr_write_map(b, 1 + given(s->time_unit) + (size_t)particles + given(s->selection) +
                        (s->n_ranks != 1) + (s->n_attributes > 0));
    hr_write_text(b, "variables");
    hr_write_array(b, s->n_variables);
    for (size_t i = 0; i < s->n_variables; i++)
        write_variable(b, &s->variables[i]);
    write_field(b, "time_unit", s->time_unit);
    if (particles)
        write_topology(b, s);
    write_field(b, "selection", s->selection);
    if (s->n_ranks != 1) {
        hr_write_text(b, "n_ranks");
        hr_write_int(b, s->n_ranks);
    }
    if (s->n_attributes > 0) {
        hr_write_text(b, "attributes");
        hr_write_map(b, s->n_attributes);
        for (size_t i = 0; i < s->n_attributes; i++) {
            hr_write_text(b, s->attributes[i].name);
            hr_write_text(b, s->attributes[i].value);
        }
    }
}

/* ------------------------------------------------------------------------------ reading */

static bool read_variable(hr_reader *r, hr_variable *v)
{
    size_t n = hr_read_map(r);
    for (size_t i = 0; i < n && !r->failed; i++) {
        hr_span key = hr_read_text(r);
        if (hr_span_is(key, "name") || hr_span_is(key, "dtype")) {
            hr_span text = hr_read_text(r);
            char dtype[32] = "";
            if (r->failed || text.size > HR_MAX_NAME)
                return false;
            if (key.size == 4) {
                memcpy(v->name, text.data, text.size);
                v->name[text.size] = 0;
            } else {
                memcpy(dtype, text.data, text.size < 31 ? text.size : 31);
                if (hr_dtype_parse(dtype, v->dtype, &v->itemsize) < 0)
                    return false;
            }
        } else if (hr_span_is(key, "shape")) {
            size_t ndim = hr_read_array(r);
            if (ndim > HR_MAX_NDIM)
                return false;
            v->ndim = (int)ndim;
            for (size_t k = 0; k < ndim; k++) {
                v->shape[k] = hr_read_int(r);
                if (v->shape[k] < 0)
                    return false;
            }
        } else if (hr_span_is(key, "decomposed"))
            v->decomposed = hr_read_bool(r);
        else
            hr_read_any(r);
    }
    return !r->failed && v->itemsize > 0 && !(v->decomposed && v->ndim == 0);
}

/* Read what frames are made of: variables and ranks. To be freed also where it fails. */
bool hr_schema_decoded(hr_schema *schema, hr_span data)
{
    hr_reader r = hr_reader_of(data.data, data.size);
    size_t n = hr_read_map(&r);
    memset(schema, 0, sizeof *schema);
    schema->n_ranks = 1;
    for (size_t i = 0; i < n && !r.failed; i++) {
        hr_span key = hr_read_text(&r);
        if (hr_span_is(key, "variables")) {
            size_t count = hr_read_array(&r);
            free(schema->variables);
            schema->variables = calloc(count + 1, sizeof *schema->variables);
            schema->n_variables = schema->variables == NULL ? 0 : count;
            for (size_t k = 0; k < schema->n_variables; k++)
                if (!read_variable(&r, &schema->variables[k]))
                    return false;
        } else if (hr_span_is(key, "n_ranks"))
            schema->n_ranks = hr_read_int(&r);
        else
            hr_read_any(&r);
    }
    return !r.failed && schema->variables != NULL && hr_schema_bytes(schema) <= HR_MAX_FRAME;
}
