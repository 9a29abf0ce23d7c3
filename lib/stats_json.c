/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A pool's figures as text: JSON, and the format of Prometheus. */
#include <errno.h>
#include <string.h>

#include "json.h"
#include "seg.h"

/* The JSON names are those of the members. */
static const struct json_field fields[] = {
	JSON_FIELD(seg_pool_stats, active),
	JSON_FIELD(seg_pool_stats, cached),
	JSON_FIELD(seg_pool_stats, unused),
	JSON_FIELD(seg_pool_stats, decommitted),
	JSON_FIELD(seg_pool_stats, slices),
	JSON_FIELD(seg_pool_stats, active_bytes),
	JSON_FIELD(seg_pool_stats, decommitted_bytes),
	JSON_FIELD(seg_pool_stats, regions),
	JSON_FIELD(seg_pool_stats, spare_regions),
	JSON_FIELD(seg_pool_stats, deferred_regions),
	JSON_FIELD(seg_pool_stats, deferred_bytes),
	JSON_FIELD(seg_pool_stats, mapped_bytes),
	JSON_FIELD(seg_pool_stats, charged_bytes),
	JSON_FIELD(seg_pool_stats, peak_mapped_bytes),
	JSON_FIELD(seg_pool_stats, metadata_bytes),
	JSON_FIELD(seg_pool_stats, allocations_total),
	JSON_FIELD(seg_pool_stats, releases_total),
	JSON_FIELD(seg_pool_stats, refusals_total),
	JSON_FIELD(seg_pool_stats, regions_mapped_total),
	JSON_FIELD(seg_pool_stats, regions_retired_total),
	JSON_FIELD(seg_pool_stats, regions_unmapped_total),
	JSON_FIELD(seg_pool_stats, misuses_total),
	JSON_END,
};

static struct seg_pool_stats look(struct seg_pool *p, int class_index)
{
	struct seg_pool_stats s = { .size = sizeof(s) };

	seg_pool_stats(p, SEG_ALL, class_index, &s);
	return s;
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
	s = look(p, SEG_ALL);
	json_fields(&j, fields, &s);
	json_open(&j, "classes", '[');
	for (int c = 0; c < SEG_CLASSES; c++) {
		s = look(p, c);
		json_open(&j, NULL, '{');
		json_number(&j, "slice_bytes", (uint64_t)SEG_MIN_BYTES << c);
		json_fields(&j, fields, &s);
		json_close(&j, '}');
	}
	json_close(&j, ']');
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

/* class_index SEG_ALL: a figure that belongs to no class. */
static void put_sample(struct json *j, const struct json_field *f,
		       const char *pool, int class_index, uint64_t value)
{
	json_raw(j, "seg_");
	json_raw(j, f->name);
	json_raw(j, "{pool=\"");
	put_label(j, pool);
	if (class_index != SEG_ALL) {
		json_raw(j, "\",class=\"");
		json_raw_number(j, (uint64_t)SEG_MIN_BYTES << class_index);
	}
	json_raw(j, "\"} ");
	json_raw_number(j, value);
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

/* Only in the sum over all classes. */
static bool is_of_the_whole(const struct json_field *f)
{
	return f->offset == offsetof(struct seg_pool_stats, misuses_total);
}

int seg_pool_stats_prometheus(struct seg_pool *p, const char *name,
			      char *buffer, size_t bytes)
{
	struct seg_pool_stats all, s[SEG_CLASSES];
	struct json j;

	if (!p || !name || (bytes && !buffer))
		return -EINVAL;
	all = look(p, SEG_ALL);
	for (int c = 0; c < SEG_CLASSES; c++)
		s[c] = look(p, c);
	json_begin(&j, buffer, bytes);
	for (const struct json_field *f = fields; f->name; f++) {
		put_type(&j, f);
		if (is_of_the_whole(f)) {
			put_sample(&j, f, name, SEG_ALL, value_of(f, &all));
			continue;
		}
		for (int c = 0; c < SEG_CLASSES; c++)
			put_sample(&j, f, name, c, value_of(f, &s[c]));
	}
	return json_end(&j);
}
