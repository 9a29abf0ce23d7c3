/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A pool's figures as text: JSON, and the format of Prometheus. */
#include <errno.h>
#include <string.h>

#include "json.h"
#include "pool.h"
#include "stats_fields.h"
#include "topology.h"

static struct seg_pool_stats look(struct seg_pool *p, int node, int class_index)
{
	struct seg_pool_stats s = { .size = sizeof(s) };

	seg_pool_stats(p, node, class_index, &s);
	return s;
}

/* ---- JSON ---- */

static void put_classes(struct json *j, struct seg_pool *p)
{
	json_open(j, "classes", '[');
	for (int c = 0; c < SEG_CLASSES; c++) {
		struct seg_pool_stats s = look(p, SEG_ALL, c);

		json_open(j, NULL, '{');
		json_number(j, "slice_bytes", (uint64_t)SEG_MIN_BYTES << c);
		json_fields(j, pool_stats_fields, &s);
		json_close(j, '}');
	}
	json_close(j, ']');
}

static void put_nodes(struct json *j, struct seg_pool *p)
{
	json_open(j, "nodes", '[');
	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;) {
		struct seg_pool_stats s = look(p, n->id, SEG_ALL);

		json_open(j, NULL, '{');
		json_signed(j, "node", n->id);
		json_fields(j, pool_stats_fields, &s);
		json_close(j, '}');
	}
	json_close(j, ']');
}

int seg_pool_stats_json(struct seg_pool *p, char *buffer, size_t bytes)
{
	struct seg_pool_stats s;
	struct json j;

	if (!p || (bytes && !buffer))
		return -EINVAL;
	json_begin(&j, buffer, bytes);
	json_open(&j, NULL, '{');
	json_number(&j, "version", 1);
	s = look(p, SEG_ALL, SEG_ALL);
	json_fields(&j, pool_stats_fields, &s);
	put_classes(&j, p);
	if (topology_has_many())
		put_nodes(&j, p);
	json_close(&j, '}');
	return json_end(&j);
}

/* ---- Prometheus ---- */

/* As what a label may hold; the rest of the bytes is left out. */
static void put_label(struct json *j, const char *text)
{
	for (; *text; text++) {
		char one[] = { *text, '\0' };

		if (*text < 0x20 || *text > 0x7e)
			continue;
		if (*text == '"' || *text == '\\')
			json_raw(j, "\\");
		json_raw(j, one);
	}
}

static uint64_t value_of(const struct json_field *f,
			 const struct seg_pool_stats *s)
{
	uint64_t value;

	memcpy(&value, (const char *)s + f->offset, sizeof(value));
	return value;
}

/* What a figure belongs to beside the pool; name NULL: nothing. */
struct label {
	const char *name;
	uint64_t value;
};

static void put_sample(struct json *j, const struct json_field *f,
		       const char *pool, struct label label,
		       const struct seg_pool_stats *s)
{
	json_raw(j, "seg_");
	json_raw(j, f->name);
	json_raw(j, "{pool=\"");
	put_label(j, pool);
	if (label.name) {
		json_raw(j, "\",");
		json_raw(j, label.name);
		json_raw(j, "=\"");
		json_raw_number(j, label.value);
	}
	json_raw(j, "\"} ");
	json_raw_number(j, value_of(f, s));
	json_raw(j, "\n");
}

static bool is_counter(const char *name)
{
	const char *end = strstr(name, "_total");

	return end && !end[strlen("_total")];
}

static void put_type(struct json *j, const struct json_field *f)
{
	json_raw(j, "# TYPE seg_");
	json_raw(j, f->name);
	json_raw(j, is_counter(f->name) ? " counter\n" : " gauge\n");
}

static bool is_of_the_whole(const struct json_field *f)
{
	return f->offset == offsetof(struct seg_pool_stats, misuses_total);
}

static bool is_of_nodes(const struct json_field *f)
{
	return f->offset >= offsetof(struct seg_pool_stats,
				     remote_allocations_total) &&
	       f->offset <= offsetof(struct seg_pool_stats, foreign_total);
}

static void put_by_class(struct json *j, const struct json_field *f,
			 const char *pool, const struct seg_pool_stats *classes)
{
	for (unsigned c = 0; c < SEG_CLASSES; c++)
		put_sample(j, f, pool,
			   (struct label){ "class", SEG_MIN_BYTES << c },
			   &classes[c]);
}

static void put_by_node(struct json *j, const struct json_field *f,
			const char *pool, struct seg_pool *p)
{
	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;) {
		struct seg_pool_stats s = look(p, n->id, SEG_ALL);

		put_sample(j, f, pool,
			   (struct label){ "node", (uint64_t)n->id }, &s);
	}
}

int seg_pool_stats_prometheus(struct seg_pool *p, const char *name,
			      char *buffer, size_t bytes)
{
	struct seg_pool_stats all, s[SEG_CLASSES];
	struct json j;

	if (!p || !name || (bytes && !buffer))
		return -EINVAL;
	all = look(p, SEG_ALL, SEG_ALL);
	for (int c = 0; c < SEG_CLASSES; c++)
		s[c] = look(p, SEG_ALL, c);
	json_begin(&j, buffer, bytes);
	for (const struct json_field *f = pool_stats_fields; f->name; f++) {
		put_type(&j, f);
		if (is_of_nodes(f) && topology_has_many())
			put_by_node(&j, f, name, p);
		else if (is_of_nodes(f) || is_of_the_whole(f))
			put_sample(&j, f, name, (struct label){ 0 }, &all);
		else
			put_by_class(&j, f, name, s);
	}
	return json_end(&j);
}
