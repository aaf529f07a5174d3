/* What is said about a stream before it is opened: variables, particles, capabilities. */
#include "internal.h"

#include <stdio.h>

/* Text from outside: never NULL, and readable by others. */
int hr_check_text(const char *text, const char *what)
{
    if (text != NULL && !hr_is_utf8(text))
        return hr_fail(HR_ERROR_ARGUMENT, "The %s is not text in UTF-8.", what);
    return HR_OK;
}

int hr_check_new(const hr_stream *s, const char *what)
{
    if (s == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "%s needs a stream; make one with hr_new.", what);
    if (s->is_open || s->is_closed)
        return hr_fail(HR_ERROR_STATE, "%s must be called before the stream of '%s' is opened.",
                       what, s->simulation);
    return HR_OK;
}

int hr_replace(char **field, const char *text)
{
    char *copy = hr_copy(text);
    if (copy == NULL)
        return hr_fail_memory();
    free(*field);
    *field = copy;
    return HR_OK;
}

/* ----------------------------------------------------------------------- variables */

static int fill_shape(hr_variable *v, const char *name, int ndim, const int64_t *shape, int flags)
{
    if (ndim < 0 || ndim > HR_MAX_NDIM || (ndim > 0 && shape == NULL))
        return hr_fail(HR_ERROR_ARGUMENT, "Variable '%s' has %d dimensions%s; there may be 0 to %d.",
                       name, ndim, shape == NULL ? " and no shape" : "", HR_MAX_NDIM);
    if ((flags & HR_DECOMPOSED) && ndim == 0)
        return hr_fail(HR_ERROR_ARGUMENT, "Variable '%s' is a number, which cannot be decomposed.",
                       name);
    v->ndim = ndim;
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0)
            return hr_fail(HR_ERROR_ARGUMENT, "Axis %d of variable '%s' has the length %lld.", i,
                           name, (long long)shape[i]);
        v->shape[i] = shape[i];
    }
    v->decomposed = (flags & HR_DECOMPOSED) != 0;
    return HR_OK;
}

/* The decomposed variables of a frame share their rows. */
static int check_rows(const hr_schema *schema, const hr_variable *v)
{
    for (size_t i = 0; v->decomposed && i < schema->n_variables; i++) {
        const hr_variable *other = &schema->variables[i];
        if (other->decomposed && other->shape[0] != v->shape[0])
            return hr_fail(HR_ERROR_SCHEMA, "The decomposed variable '%s' has %lld rows, '%s' has "
                                            "%lld; they must have the same.", v->name,
                           (long long)v->shape[0], other->name, (long long)other->shape[0]);
    }
    return HR_OK;
}

int hr_declare(hr_stream *s, const char *name, const char *dtype, int ndim, const int64_t *shape,
               const char *unit, int flags)
{
    hr_variable v;
    memset(&v, 0, sizeof v);
    int code = hr_check_new(s, "hr_declare");
    if (code == HR_OK)
        code = hr_check_name(name, "variable");
    if (code == HR_OK && (strcmp(name, "step") == 0 || strcmp(name, "time") == 0 ||
                          strcmp(name, "epoch") == 0 || strcmp(name, "offset") == 0))
        code = hr_fail(HR_ERROR_SCHEMA, "Every frame carries '%s' already; choose another name.",
                       name);
    if (code == HR_OK && hr_schema_find(&s->schema, name) != NULL)
        code = hr_fail(HR_ERROR_SCHEMA, "The variable '%s' is declared more than once.", name);
    if (code == HR_OK && (flags & ~HR_DECOMPOSED) != 0)
        code = hr_fail(HR_ERROR_ARGUMENT, "Variable '%s' has the unknown flags %d.", name, flags);
    if (code == HR_OK)
        code = hr_dtype_parse(dtype, v.dtype, &v.itemsize);
    if (code == HR_OK)
        code = hr_check_text(unit, "unit of a variable");
    if (code == HR_OK)
        code = fill_shape(&v, name, ndim, shape, flags);
    if (code < 0)
        return code;
    snprintf(v.name, sizeof v.name, "%s", name);
    code = check_rows(&s->schema, &v);
    if (code < 0)
        return code;
    uint64_t bytes = hr_variable_bytes(&v, -1), all = hr_schema_bytes(&s->schema);
    if (bytes > HR_MAX_FRAME || all + bytes > HR_MAX_FRAME)
        return hr_fail(HR_ERROR_SCHEMA, "One frame with '%s' is larger than the limit of %llu "
                                        "bytes; send a selection.", name,
                       (unsigned long long)HR_MAX_FRAME);
    size_t n = s->schema.n_variables;
    hr_variable *grown = realloc(s->schema.variables, (n + 1) * sizeof *grown);
    if (grown == NULL)
        return hr_fail_memory();
    s->schema.variables = grown;
    v.unit = hr_copy(unit);
    if (v.unit == NULL)
        return hr_fail_memory();
    grown[n] = v;
    s->schema.n_variables = n + 1;
    return HR_OK;
}

int hr_describe(hr_stream *s, const char *name, const char *text)
{
    int code = hr_check_new(s, "hr_describe");
    if (code == HR_OK)
        code = hr_check_text(text, "description of a variable");
    if (code < 0)
        return code;
    hr_variable *v = hr_schema_find(&s->schema, name);
    if (v == NULL)
        return hr_fail(HR_ERROR_SCHEMA, "The variable to describe is not declared.");
    return hr_replace(&v->description, text);
}

int hr_attribute(hr_stream *s, const char *name, const char *value)
{
    int code = hr_check_new(s, "hr_attribute");
    if (code == HR_OK && (name == NULL || *name == 0))
        code = hr_fail(HR_ERROR_ARGUMENT, "An attribute needs a name.");
    if (code == HR_OK)
        code = hr_check_text(name, "name of an attribute");
    if (code == HR_OK)
        code = hr_check_text(value, "value of an attribute");
    if (code < 0)
        return code;
    hr_schema *schema = &s->schema;
    for (size_t i = 0; i < schema->n_attributes; i++)
        if (strcmp(schema->attributes[i].name, name) == 0)
            return hr_replace(&schema->attributes[i].value, value);
    hr_pair *grown = realloc(schema->attributes, (schema->n_attributes + 1) * sizeof *grown);
    if (grown == NULL)
        return hr_fail_memory();
    schema->attributes = grown;
    hr_pair pair = {hr_copy(name), hr_copy(value)};
    if (pair.name == NULL || pair.value == NULL) {
        free(pair.name);
        free(pair.value);
        return hr_fail_memory();
    }
    grown[schema->n_attributes++] = pair;
    return HR_OK;
}

/* ----------------------------------------------------------------------- particles */

static int copy_texts(char ***out, const char *const *texts, size_t n)
{
    if (texts == NULL)
        return HR_OK;
    *out = calloc(n + 1, sizeof **out);
    if (*out == NULL)
        return hr_fail_memory();
    for (size_t i = 0; i < n; i++) {
        int code = hr_check_text(texts[i], "name of a particle");
        if (code < 0)
            return code;
        (*out)[i] = hr_copy(texts[i]);
        if ((*out)[i] == NULL)
            return hr_fail_memory();
    }
    return HR_OK;
}

static int copy_numbers(void *out, const void *numbers, size_t bytes)
{
    if (numbers == NULL)
        return HR_OK;
    void *copy = malloc(bytes + 1);
    if (copy == NULL)
        return hr_fail_memory();
    memcpy(copy, numbers, bytes);
    memcpy(out, &copy, sizeof copy);
    return HR_OK;
}

int hr_particles(hr_stream *s, size_t n, const char *const *names, const char *const *elements,
                 const char *const *residues, const int64_t *residue_ids, const double *masses)
{
    int code = hr_check_new(s, "hr_particles");
    if (code < 0)
        return code;
    hr_schema *schema = &s->schema;
    if (schema->n_particles > 0)
        return hr_fail(HR_ERROR_STATE, "The particles of '%s' are described already.",
                       s->simulation);
    if (n == 0 || n > HR_MAX_FRAME)
        return hr_fail(HR_ERROR_ARGUMENT, "%zu particles cannot be described.", n);
    schema->n_particles = n;
    if ((code = copy_texts(&schema->names, names, n)) < 0 ||
        (code = copy_texts(&schema->elements, elements, n)) < 0 ||
        (code = copy_texts(&schema->residues, residues, n)) < 0 ||
        (code = copy_numbers(&schema->residue_ids, residue_ids, n * sizeof *residue_ids)) < 0)
        return code;
    return copy_numbers(&schema->masses, masses, n * sizeof *masses);
}

int hr_bonds(hr_stream *s, size_t n, const int64_t *pairs)
{
    int code = hr_check_new(s, "hr_bonds");
    if (code < 0)
        return code;
    if (s->schema.bonds != NULL || pairs == NULL || n > HR_MAX_FRAME)
        return hr_fail(HR_ERROR_ARGUMENT, "The bonds of '%s' are given already, or cannot be right.",
                       s->simulation);
    s->schema.n_bonds = n;
    return copy_numbers(&s->schema.bonds, pairs, 2 * n * sizeof *pairs);
}

/* -------------------------------------------------------------------- capabilities */

int hr_capability(hr_stream *s, const char *kind, const char *parameter, double minimum,
                  double maximum, const char *unit, const char *description)
{
    static const char *const kinds[] = {"set", "restart", "pause", "resume", "stop", "interval"};
    int code = hr_check_new(s, "hr_capability");
    bool known = false;
    for (int i = 0; i < 6 && kind != NULL; i++)
        known = known || strcmp(kind, kinds[i]) == 0;
    if (code == HR_OK && !known)
        code = hr_fail(HR_ERROR_ARGUMENT, "A capability is of the kind set, restart, pause, resume, "
                                          "stop or interval.");
    bool is_set = code == HR_OK && strcmp(kind, "set") == 0;
    if (code == HR_OK && is_set != (parameter != NULL && *parameter != 0))
        code = hr_fail(HR_ERROR_ARGUMENT, is_set ? "The capability to set needs a parameter."
                                                 : "Only the capability to set has a parameter.");
    if (code == HR_OK && !(minimum <= maximum))
        code = hr_fail(HR_ERROR_ARGUMENT, "A capability has the minimum %g and the maximum %g.",
                       minimum, maximum);
    if (code == HR_OK)
        code = hr_check_text(parameter, "parameter of a capability");
    if (code == HR_OK)
        code = hr_check_text(unit, "unit of a capability");
    if (code == HR_OK)
        code = hr_check_text(description, "description of a capability");
    if (code < 0)
        return code;
    hr_capability_entry *grown =
        realloc(s->capabilities, (s->n_capabilities + 1) * sizeof *grown);
    if (grown == NULL)
        return hr_fail_memory();
    s->capabilities = grown;
    hr_capability_entry entry = {hr_copy(kind), hr_copy(parameter), hr_copy(unit),
                                 hr_copy(description), minimum, maximum};
    if (entry.kind == NULL || entry.parameter == NULL || entry.unit == NULL ||
        entry.description == NULL) {
        free(entry.kind);
        free(entry.parameter);
        free(entry.unit);
        free(entry.description);
        return hr_fail_memory();
    }
    grown[s->n_capabilities++] = entry;
    return HR_OK;
}
