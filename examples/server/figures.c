/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "figures.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------- tables */

/* A figure: a uint64_t in a struct, named as it is there. */
struct figure {
	const char *name;
	size_t offset;
};

#define FIGURE(type, member) { #member, offsetof(struct type, member) }

static const struct figure budget_figures[] = {
	FIGURE(seg_budget_stats, limit_bytes),
	FIGURE(seg_budget_stats, charged_bytes),
	FIGURE(seg_budget_stats, peak_charged_bytes),
	FIGURE(seg_budget_stats, deferred_bytes),
	FIGURE(seg_budget_stats, charge_refusals_total),
	FIGURE(seg_budget_stats, waiters),
	FIGURE(seg_budget_stats, waits_total),
	FIGURE(seg_budget_stats, reclaims_total),
	FIGURE(seg_budget_stats, reclaimed_bytes_total),
	{ NULL, 0 }
};

static const struct figure cache_figures[] = {
	FIGURE(seg_cache_stats, max_weight),
	FIGURE(seg_cache_stats, weight),
	FIGURE(seg_cache_stats, pinned_weight),
	FIGURE(seg_cache_stats, entries),
	FIGURE(seg_cache_stats, hits_total),
	FIGURE(seg_cache_stats, misses_total),
	FIGURE(seg_cache_stats, inserts_total),
	FIGURE(seg_cache_stats, loads_total),
	FIGURE(seg_cache_stats, load_failures_total),
	FIGURE(seg_cache_stats, load_waits_total),
	FIGURE(seg_cache_stats, evictions_total),
	FIGURE(seg_cache_stats, reclaims_total),
	FIGURE(seg_cache_stats, removals_total),
	FIGURE(seg_cache_stats, metadata_bytes),
	FIGURE(seg_cache_stats, misuses_total),
	{ NULL, 0 }
};

/* The server's own, read one by one. */
struct server_stats {
	uint64_t requests_total;
	uint64_t files_total;
	uint64_t streamed_total;
	uint64_t absent_total;
	uint64_t refused_total;
	uint64_t cut_total;
	uint64_t changed_total;
	uint64_t checked_total;
	uint64_t sending;
};

static const struct figure server_figures[] = {
	FIGURE(server_stats, requests_total),
	FIGURE(server_stats, files_total),
	FIGURE(server_stats, streamed_total),
	FIGURE(server_stats, absent_total),
	FIGURE(server_stats, refused_total),
	FIGURE(server_stats, cut_total),
	FIGURE(server_stats, changed_total),
	FIGURE(server_stats, checked_total),
	FIGURE(server_stats, sending),
	{ NULL, 0 }
};

static uint64_t value_of(const struct figure *figure, const void *stats)
{
	uint64_t value;

	memcpy(&value, (const char *)stats + figure->offset, sizeof(value));
	return value;
}

static struct server_stats look(struct server *server)
{
	struct counters *c = &server->counters;

	/* seq_cst, as they come: figures only */
	return (struct server_stats){
		.requests_total = c->requests_total,
		.files_total = c->files_total,
		.streamed_total = c->streamed_total,
		.absent_total = c->absent_total,
		.refused_total = c->refused_total,
		.cut_total = c->cut_total,
		.changed_total = server->store.changed_total,
		.checked_total = server->store.checked_total,
		.sending = server->sending,
	};
}

/* --------------------------------------------- the library's own texts */

typedef int text_fn(void *object, char *buffer, size_t bytes);

static int pool_json(void *pool, char *buffer, size_t bytes)
{
	return seg_pool_stats_json(pool, buffer, bytes);
}

static int pool_prometheus(void *pool, char *buffer, size_t bytes)
{
	return seg_pool_stats_prometheus(pool, "files", buffer, bytes);
}

static int refusal_json(void *refusal, char *buffer, size_t bytes)
{
	return seg_refusal_json(refusal, buffer, bytes);
}

/* Figures grow between two calls, and with them the text: ask again. */
static void put_text(FILE *out, text_fn *fn, void *object)
{
	char *text = NULL, *more;
	int bytes = fn(object, NULL, 0), room;

	do {
		room = bytes + 64;
		more = realloc(text, (size_t)room);
		if (!more)
			break;
		text = more;
		bytes = fn(object, text, (size_t)room);
	} while (bytes >= room);
	if (more && bytes > 0)
		fwrite(text, 1, (size_t)bytes, out);
	else
		fputs("null", out);
	free(text);
}

/* ----------------------------------------------------------------- JSON */

static void put_json(FILE *out, const char *name, const struct figure *figures,
		     const void *stats)
{
	const char *comma = "";

	fprintf(out, "\"%s\":{", name);
	for (const struct figure *f = figures; f->name; f++, comma = ",")
		fprintf(out, "%s\"%s\":%llu", comma, f->name,
			(unsigned long long)value_of(f, stats));
	fputs("},", out);
}

/* The owners' numbers are their IPv4 addresses and ports. */
static void put_pins(FILE *out, struct seg_cache *cache)
{
	struct seg_pin_report pins = { .size = sizeof(pins) };
	const char *comma = "";

	seg_cache_pins(cache, &pins);
	fputs("\"pins\":[", out);
	for (int i = 0; i < SEG_PINS_MOST && pins.longest[i].tag; i++) {
		unsigned long long tag = pins.longest[i].tag;

		fprintf(out, "%s{\"client\":\"%llu.%llu.%llu.%llu:%llu\","
			"\"bytes\":%llu,\"held_ms\":%llu}", comma,
			tag >> 40 & 255, tag >> 32 & 255, tag >> 24 & 255,
			tag >> 16 & 255, tag & 65535,
			(unsigned long long)pins.longest[i].weight,
			(unsigned long long)pins.longest[i].held_ns / 1000000);
		comma = ",";
	}
	fputs("],", out);
}

static void put_all_json(FILE *out, struct server *server)
{
	struct store *store = &server->store;
	struct seg_budget_stats budget = { .size = sizeof(budget) };
	struct seg_cache_stats cache = { .size = sizeof(cache) };
	struct seg_refusal refusal = { .size = sizeof(refusal) };
	struct server_stats own = look(server);

	seg_budget_stats(store->budget, &budget);
	seg_cache_stats(store->cache, &cache);
	fputs("{", out);
	put_json(out, "server", server_figures, &own);
	put_json(out, "budget", budget_figures, &budget);
	put_json(out, "cache", cache_figures, &cache);
	put_pins(out, store->cache);
	fputs("\"pool\":", out);
	put_text(out, pool_json, store->pool);
	fputs(",\"refusal\":", out);
	if (seg_pool_last_refusal(store->pool, &refusal) == 0)
		put_text(out, refusal_json, &refusal);
	else
		fputs("null", out);
	fputs("}\n", out);
}

/* ----------------------------------------------------------- Prometheus */

static void put_metrics(FILE *out, const char *prefix,
			const struct figure *figures, const void *stats)
{
	for (const struct figure *f = figures; f->name; f++) {
		size_t length = strlen(f->name);
		bool counter = length > 6 &&
			       !strcmp(f->name + length - 6, "_total");

		fprintf(out, "# TYPE %s_%s %s\n%s_%s %llu\n", prefix, f->name,
			counter ? "counter" : "gauge", prefix, f->name,
			(unsigned long long)value_of(f, stats));
	}
}

static void put_all_prometheus(FILE *out, struct server *server)
{
	struct seg_budget_stats budget = { .size = sizeof(budget) };
	struct seg_cache_stats cache = { .size = sizeof(cache) };
	struct server_stats own = look(server);

	seg_budget_stats(server->store.budget, &budget);
	seg_cache_stats(server->store.cache, &cache);
	put_metrics(out, "seg_server", server_figures, &own);
	put_metrics(out, "seg_budget", budget_figures, &budget);
	put_metrics(out, "seg_cache", cache_figures, &cache);
	put_text(out, pool_prometheus, server->store.pool);
}

/* ------------------------------------------------------------- as text */

static char *text_of(void (*put)(FILE *out, struct server *server),
		     struct server *server, size_t *ret_bytes)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_bytes);

	if (!out)
		return NULL;
	put(out, server);
	if (!fclose(out))
		return text;
	free(text);
	return NULL;
}

char *figures_json(struct server *server, size_t *ret_bytes)
{
	return text_of(put_all_json, server, ret_bytes);
}

char *figures_prometheus(struct server *server, size_t *ret_bytes)
{
	return text_of(put_all_prometheus, server, ret_bytes);
}
