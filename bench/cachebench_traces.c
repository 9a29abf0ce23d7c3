/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Miss ratios: replays request traces through the public interface, in one
 * thread, at 1, 5, 10 and 25 % of the footprint.
 *
 *   cachebench traces FOLDER [REFERENCE.tsv] [--weights] [--tsv]
 *
 * FOLDER/NAME.kv.zst: per request a key of 64 bits and a size of 32 bits,
 * little-endian, compressed by zstd (whose program is run).  By count all
 * entries weigh the same; by bytes, where the sizes of a trace differ, what
 * they say; with --weights also 4 to 256 KiB by a hash of the key.
 *
 * REFERENCE.tsv: columns trace, mode, simulator, policy, permille, miss_ratio
 * and byte_miss_ratio.  A cell's best is the least miss_ratio of all its rows
 * but those of policies that know the future or prefer small entries.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cachebench.h"
#include "cachebench_seg.h"
#include "seg.h"

enum {
	REQUEST_BYTES = 12,
	UNIT_WEIGHT = 4096,
	NAME_BYTES = 64,
	TRACES_MOST = 64,
	SMALLEST_SEGMENT = 4096,
	SEGMENT_DOUBLINGS = 6,
};

static const int permilles[] = { 10, 50, 100, 250 };
enum { CELLS = sizeof(permilles) / sizeof(*permilles) };

enum mode { MODE_UNIT, MODE_BYTES, MODE_SEG, MODES };
static const char *const mode_names[MODES] = { "unit", "bytes", "seg" };

struct request {
	uint64_t key;
	uint32_t size;
};

struct trace {
	char name[NAME_BYTES];
	struct request *requests;
	size_t count;
	uint64_t unique;	/* keys */
	uint64_t footprint[MODES];
	bool sized;		/* its sizes differ */
};

struct reference {
	char trace[NAME_BYTES], mode[8];
	int permille;
	double best;
	char policy[NAME_BYTES];
};

static struct {
	struct reference *cells;
	size_t count;
} reference;

/* The excess over the best, by cell; one group each for loops and the rest. */
struct tally {
	int cells;
	double sum, worst;
	char where[2 * NAME_BYTES];
};

static struct tally main_tally, seg_tally, loop_tally;
static bool tsv, with_weights;

/* ---------------------------------------------------------------- weights */

static uint64_t weight_of(const struct request *request, enum mode mode)
{
	uint64_t most = UINT64_C(1) << SEGMENT_DOUBLINGS;

	if (mode == MODE_BYTES)
		return request->size;
	if (mode == MODE_UNIT)
		return UNIT_WEIGHT;
	return (uint64_t)SMALLEST_SEGMENT
		<< __builtin_ctzll(bench_mix(request->key) | most);
}

/* ------------------------------------------------------------- reading in */

static uint64_t little_endian(const unsigned char *bytes, int count)
{
	uint64_t value = 0;

	while (count--)
		value = value << 8 | bytes[count];
	return value;
}

static void add_request(struct trace *trace, const unsigned char *bytes)
{
	if (!(trace->count & (trace->count - 1))) {
		size_t room = trace->count ? 2 * trace->count : 1;

		trace->requests = realloc(trace->requests,
					  room * sizeof(*trace->requests));
		if (!trace->requests)
			bench_die("realloc");
	}
	trace->requests[trace->count++] = (struct request) {
		.key = little_endian(bytes, 8),
		.size = (uint32_t)little_endian(bytes + 8, 4),
	};
}

/* Which requests are the first of their key: the footprint is theirs. */
static void measure_footprint(struct trace *trace)
{
	size_t slots = 16, mask;
	size_t *first;		/* index + 1, by hash */

	while (slots < 2 * trace->count)
		slots *= 2;
	mask = slots - 1;
	first = calloc(slots, sizeof(*first));
	if (!first)
		bench_die("calloc");
	for (size_t i = 0; i < trace->count; i++) {
		const struct request *request = &trace->requests[i];
		size_t at = bench_mix(request->key) & mask;

		while (first[at] &&
		       trace->requests[first[at] - 1].key != request->key)
			at = (at + 1) & mask;
		if (first[at])
			continue;
		first[at] = i + 1;
		trace->unique++;
		for (int mode = 0; mode < MODES; mode++)
			trace->footprint[mode] +=
				weight_of(request, (enum mode)mode);
		trace->sized |= request->size != trace->requests[0].size;
	}
	free(first);
}

/* The name goes to a shell: only what can mean nothing there. */
static bool is_plain(const char *text)
{
	for (; *text; text++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"
			    "WXYZ0123456789_-./+=,@%", *text))
			return false;
	return true;
}

static void read_trace(const char *folder, struct trace *trace)
{
	unsigned char bytes[REQUEST_BYTES];
	char command[4096];
	FILE *from;

	if (!is_plain(folder) || folder[0] == '-' ||
	    snprintf(command, sizeof(command),
		     "zstd -dcq --long=27 %s/%s.kv.zst", folder,
		     trace->name) >= (int)sizeof(command)) {
		errno = EINVAL;
		bench_die(folder);
	}
	from = popen(command, "r");
	if (!from)
		bench_die("popen");
	while (fread(bytes, sizeof(bytes), 1, from) == 1)
		add_request(trace, bytes);
	if (pclose(from) || !trace->count) {
		errno = EIO;
		bench_die(command);
	}
	measure_footprint(trace);
}

/* ------------------------------------------------------------- reference */

/* LHD too prefers small entries, which shows where weights differ a lot. */
static bool is_online(const char *policy, const char *mode)
{
	return strncmp(policy, "Belady", 6) && strcmp(policy, "GDSF") &&
	       (strcmp(policy, "LHD") ||
		strcmp(mode, mode_names[MODE_SEG]));
}

static struct reference *find_reference(const char *trace, const char *mode,
					int permille)
{
	for (size_t i = 0; i < reference.count; i++) {
		struct reference *cell = &reference.cells[i];

		if (cell->permille == permille && !strcmp(cell->mode, mode) &&
		    !strcmp(cell->trace, trace))
			return cell;
	}
	return NULL;
}

static void add_reference(const char *trace, const char *mode, int permille,
			  const char *policy, double ratio)
{
	struct reference *cell = find_reference(trace, mode, permille);

	if (!cell) {
		size_t bytes = (reference.count + 1) * sizeof(*cell);

		reference.cells = realloc(reference.cells, bytes);
		if (!reference.cells)
			bench_die("realloc");
		cell = &reference.cells[reference.count++];
		*cell = (struct reference) { .permille = permille, .best = 2 };
		snprintf(cell->trace, sizeof(cell->trace), "%s", trace);
		snprintf(cell->mode, sizeof(cell->mode), "%s", mode);
	}
	if (ratio < cell->best) {
		cell->best = ratio;
		snprintf(cell->policy, sizeof(cell->policy), "%s", policy);
	}
}

static void read_reference(const char *path)
{
	char line[512], trace[NAME_BYTES], mode[8], policy[NAME_BYTES];
	FILE *from = fopen(path, "r");
	double ratio;
	int permille;

	if (!from)
		bench_die(path);
	while (fgets(line, sizeof(line), from))
		if (sscanf(line, "%63[^\t]\t%7[^\t]\t%*[^\t]\t%63[^\t]\t%d\t"
			   "%lf", trace, mode, policy, &permille, &ratio) == 5
		    && is_online(policy, mode))
			add_reference(trace, mode, permille, policy, ratio);
	fclose(from);
}

/* ---------------------------------------------------------------- replay */

struct outcome {
	double ratio, byte_ratio;	/* of misses */
	double seconds;
};

static void replay(const struct trace *trace, enum mode mode, uint64_t weight,
		   struct outcome *outcome)
{
	struct seg_cache *cache = bench_cache(weight, false);
	uint64_t misses = 0, missed = 0, asked = 0;
	double began = bench_now();

	for (size_t i = 0; i < trace->count; i++) {
		const struct request *request = &trace->requests[i];
		uint64_t heavy = weight_of(request, mode);
		struct seg_pin pin;

		asked += heavy;
		if (!seg_cache_get(cache, request->key, &pin)) {
			seg_unpin(&pin);
			continue;
		}
		misses++;
		missed += heavy;
		if (heavy <= weight)
			bench_cache_put(cache, request->key, heavy);
	}
	outcome->ratio = (double)misses / (double)trace->count;
	outcome->byte_ratio = (double)missed / (double)asked;
	outcome->seconds = bench_now() - began;
	bench_cache_end(cache);
}

/* ---------------------------------------------------------------- report */

static void count_in(struct tally *tally, const char *where, double excess)
{
	if (!tally->cells++ || excess > tally->worst) {
		tally->worst = excess;
		snprintf(tally->where, sizeof(tally->where), "%s", where);
	}
	tally->sum += excess;
}

static bool is_loop(const struct trace *trace)
{
	return strstr(trace->name, "loop") != NULL;
}

static void report_cell(const struct trace *trace, enum mode mode,
			int permille, const struct outcome *outcome)
{
	const struct reference *cell =
		find_reference(trace->name, mode_names[mode], permille);
	char where[2 * NAME_BYTES];

	printf(tsv ? "%s\t%s\t%d\t%.4f\t%.4f" :
	       "| %-12s | %-5s | %3d | %.4f | %.4f |", trace->name,
	       mode_names[mode], permille, outcome->ratio, outcome->byte_ratio);
	if (cell) {
		double excess = (outcome->ratio / cell->best - 1) * 100;

		printf(tsv ? "\t%.4f\t%s\t%.2f" : " %.4f | %-14s | %6.2f |",
		       cell->best, cell->policy, excess);
		snprintf(where, sizeof(where), "%s %s %d", trace->name,
			 mode_names[mode], permille);
		count_in(is_loop(trace) ? &loop_tally :
			 mode == MODE_SEG ? &seg_tally : &main_tally, where,
			 excess);
	} else {
		printf(tsv ? "\t\t\t" : "      - | -              |      - |");
	}
	printf(tsv ? "\t%.1f\n" : " %5.1f |\n",
	       (double)trace->count / outcome->seconds / 1e6);
}

static void print_tally(const char *what, const struct tally *tally)
{
	if (tally->cells)
		printf("%s: mean excess %.2f %% over %d cells, worst %.2f %% "
		       "(%s)\n", what, tally->sum / tally->cells, tally->cells,
		       tally->worst, tally->where);
}

static void replay_trace(const struct trace *trace)
{
	for (int mode = 0; mode < MODES; mode++) {
		if ((mode == MODE_BYTES && !trace->sized) ||
		    (mode == MODE_SEG && !with_weights))
			continue;
		for (int i = 0; i < CELLS; i++) {
			uint64_t weight = trace->footprint[mode] / 1000 *
				(uint64_t)permilles[i];
			struct outcome outcome;

			if (mode == MODE_UNIT)
				weight = trace->unique *
					(uint64_t)permilles[i] / 1000 *
					UNIT_WEIGHT;
			if (!weight)
				weight = UNIT_WEIGHT;
			replay(trace, (enum mode)mode, weight, &outcome);
			report_cell(trace, (enum mode)mode, permilles[i],
				    &outcome);
		}
	}
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int list_traces(const char *folder, char names[][NAME_BYTES])
{
	static const char ending[] = ".kv.zst";
	DIR *dir = opendir(folder);
	struct dirent *entry;
	int count = 0;

	if (!dir)
		bench_die(folder);
	while ((entry = readdir(dir)) && count < TRACES_MOST) {
		size_t length = strlen(entry->d_name);
		size_t stem = length - (sizeof(ending) - 1);

		if (length < sizeof(ending) || stem >= NAME_BYTES ||
		    strcmp(entry->d_name + stem, ending) ||
		    !is_plain(entry->d_name))
			continue;
		memcpy(names[count], entry->d_name, stem);
		names[count++][stem] = 0;
	}
	closedir(dir);
	qsort(names, (size_t)count, NAME_BYTES, compare_names);
	return count;
}

static void print_head(void)
{
	if (tsv)
		printf("trace\tmode\tpermille\tmiss_ratio\tbyte_miss_ratio\t"
		       "best\tpolicy\texcess\tmops\n");
	else
		printf("| trace | mode | permille | misses | byte misses | best"
		       " | by | excess %% | M req/s |\n|---|---|---:|---:|---:|"
		       "---:|---|---:|---:|\n");
}

int bench_traces(int argc, char **argv)
{
	static char names[TRACES_MOST][NAME_BYTES];
	const char *paths[2] = { NULL, NULL };
	int given = 0, count;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--weights"))
			with_weights = true;
		else if (!strcmp(argv[i], "--tsv"))
			tsv = true;
		else if (argv[i][0] != '-' && given < 2)
			paths[given++] = argv[i];
		else
			given = 3;
	}
	if (given < 1 || given > 2) {
		fprintf(stderr, "usage: cachebench traces FOLDER "
			"[REFERENCE.tsv] [--weights] [--tsv]\n");
		return 2;
	}
	if (paths[1])
		read_reference(paths[1]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	print_head();
	count = list_traces(paths[0], names);
	for (int i = 0; i < count; i++) {
		struct trace trace = { 0 };

		memcpy(trace.name, names[i], NAME_BYTES);
		read_trace(paths[0], &trace);
		replay_trace(&trace);
		free(trace.requests);
	}
	if (!tsv) {
		printf("\n");
		print_tally("by count and by bytes", &main_tally);
		print_tally("weights of 4 to 256 KiB", &seg_tally);
		print_tally("loops", &loop_tally);
	}
	return 0;
}
