/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See segstat.h: a snapshot as one line of JSON. */
#include "segstat.h"

#include <stdlib.h>

#include "stats_fields.h"

static void put_classes(struct json *j, const struct figures *f)
{
	json_open(j, "classes", '[');
	for (int c = 0; c < SEG_CLASSES; c++) {
		json_open(j, NULL, '{');
		json_number(j, "slice_bytes", (uint64_t)SEG_MIN_BYTES << c);
		json_fields(j, pool_stats_fields, &f->classes[c]);
		json_close(j, '}');
	}
	json_close(j, ']');
}

static void put_record(struct json *j, const struct published_record *r)
{
	struct figures f;

	record_figures(r, &f);
	json_open(j, NULL, '{');
	json_number(j, "id", r->id);
	json_number(j, "budget", r->budget);
	json_string(j, "name", r->name);
	if (r->kind == PUBLISHED_BUDGET)
		json_fields(j, budget_stats_fields, &f.budget);
	if (r->kind == PUBLISHED_CACHE)
		json_fields(j, cache_stats_fields, &f.cache);
	if (r->kind == PUBLISHED_POOL) {
		json_fields(j, pool_stats_fields, &f.pool);
		put_classes(j, &f);
	}
	json_close(j, '}');
}

static void put_records(struct json *j, const char *key,
			enum published_kind kind, const struct snapshot *s)
{
	const struct published_record *r = NULL;

	json_open(j, key, '[');
	while ((r = snapshot_next(s, r)) != NULL)
		if (r->kind == kind)
			put_record(j, r);
	json_close(j, ']');
}

/* As snprintf(). */
static int write_json(const struct snapshot *s, char *buffer, size_t bytes)
{
	const struct published_head *head = snapshot_head(s);
	double age = snapshot_age(s);
	struct json j;
	char command[64];

	process_name((long)head->process, command, sizeof(command));
	json_begin(&j, buffer, bytes);
	json_open(&j, NULL, '{');
	json_number(&j, "version", 1);
	json_number(&j, "process", head->process);
	json_string(&j, "command", command);
	json_string(&j, "libseg", head->version);
	json_number(&j, "age_ms", age > 0 ? (uint64_t)(age * 1000) : 0);
	json_number(&j, "omitted", head->omitted);
	put_records(&j, "budgets", PUBLISHED_BUDGET, s);
	put_records(&j, "pools", PUBLISHED_POOL, s);
	put_records(&j, "caches", PUBLISHED_CACHE, s);
	json_close(&j, '}');
	return json_end(&j);
}

/* The age may have a digit more the second time. */
bool show_json(FILE *out, const struct snapshot *s)
{
	size_t bytes = (size_t)write_json(s, NULL, 0) + 32;
	char *text = malloc(bytes);

	if (!text)
		return false;
	write_json(s, text, bytes);
	fprintf(out, "%s\n", text);
	free(text);
	return true;
}
