/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The loops of cachebench_loops.h on Caffeine, in a process that cachebench
 * starts and speaks to by lines:
 *   setup ENTRIES CAPACITY WEIGHT           -> ok
 *   run LOOP KEYS THREADS ENTRIES SECONDS MOST
 *                                           -> OPS WALL CPU HIT_RATIO
 * Keys are boxed in advance, so that a look-up allocates nothing.
 */
import com.github.benmanes.caffeine.cache.Cache;
import com.github.benmanes.caffeine.cache.Caffeine;
import com.sun.management.OperatingSystemMXBean;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.util.SplittableRandom;
import java.util.concurrent.CyclicBarrier;

public class cachebench_caffeine {
	static final int KEYS = 1 << 20, THREADS = 8, BATCH = 80, INSERTS = 20;
	static final int HIT = 0, PIN = 1, INSERT = 2, MIX = 3;
	static final int UNIFORM = 0, ZIPF = 1;

	static final OperatingSystemMXBean system = (OperatingSystemMXBean)
		ManagementFactory.getOperatingSystemMXBean();
	static final Object value = new Object();
	static final Worker[] workers = new Worker[THREADS];
	static Cache<Long, Object> cache;
	static Long[] numbers;
	static long drawn = -1;

	static volatile boolean stop;

	static long mix(long x) {
		x += 0x9e3779b97f4a7c15L;
		x = (x ^ (x >>> 30)) * 0xbf58476d1ce4e5b9L;
		x = (x ^ (x >>> 27)) * 0x94d049bb133111ebL;
		return x ^ (x >>> 31);
	}

	static class Worker extends Thread {
		final Long[] keys;
		int at;
		long fresh;
		int loop;
		long least, most, ops, gets, hits, began, ended;
		boolean warms;
		CyclicBarrier barrier;

		/* A thread can't be started again: its successor goes on. */
		Worker(int number, Worker before) {
			keys = before == null ? new Long[KEYS] : before.keys;
			at = before == null ? 0 : before.at;
			fresh = before == null ? (number + 1L) << 48
				: before.fresh;
		}

		boolean goesOn() {
			return ops < least || (ops < most && !stop);
		}

		Long next() {
			return keys[at++ & KEYS - 1];
		}

		void hits() {
			do {
				for (int i = 0; i < BATCH; i++) {
					gets++;
					if (cache.getIfPresent(next()) != null)
						hits++;
				}
				ops += BATCH;
			} while (goesOn());
		}

		void inserts() {
			do {
				for (int i = 0; i < BATCH; i++) {
					Long key = mix(fresh++);
					gets++;
					if (cache.getIfPresent(key) != null)
						hits++;
					cache.put(key, value);
				}
				ops += BATCH;
			} while (goesOn());
		}

		void mixed() {
			do {
				for (int i = 0; i < BATCH; i++) {
					if (i % INSERTS == 0) {
						cache.put(mix(fresh++), value);
						continue;
					}
					Long key = next();
					gets++;
					if (cache.getIfPresent(key) != null)
						hits++;
					else
						cache.put(key, value);
				}
				ops += BATCH;
			} while (goesOn());
		}

		void loop() {
			ops = gets = hits = 0;
			if (loop == INSERT)
				inserts();
			else if (loop == MIX)
				mixed();
			else
				hits();
		}

		public void run() {
			try {
				if (warms)
					loop();
				least = 0;
				barrier.await();
				barrier.await();
				began = System.nanoTime();
				loop();
				ended = System.nanoTime();
			} catch (Exception e) {
				System.exit(1);
			}
		}
	}

	static int rank(double[] shares, double part) {
		double wanted = part * shares[shares.length - 1];
		int low = 0, high = shares.length - 1;

		while (low < high) {
			int middle = (low + high) >>> 1;
			if (shares[middle] < wanted)
				low = middle + 1;
			else
				high = middle;
		}
		return low;
	}

	static void draw(int kind, int entries) {
		double[] shares = new double[entries];
		double sum = 0;

		if (drawn == ((long)entries << 2 | kind))
			return;
		drawn = (long)entries << 2 | kind;
		for (int i = 0; kind == ZIPF && i < entries; i++)
			shares[i] = sum += 1 / Math.pow(i + 1, 0.99);
		for (int t = 0; t < THREADS; t++) {
			SplittableRandom random = new SplittableRandom(t + 1);
			for (int i = 0; i < KEYS; i++) {
				double part = random.nextDouble();
				int number = kind == UNIFORM
					? (int)(part * entries)
					: kind == ZIPF ? rank(shares, part) : 0;
				workers[t].keys[i] = numbers[number];
			}
		}
	}

	static void setup(int entries, long capacity, int weight) {
		cache = Caffeine.newBuilder()
			.maximumWeight(capacity * weight)
			.weigher((Long key, Object v) -> weight).build();
		numbers = new Long[entries];
		drawn = -1;
		for (int i = 0; i < entries; i++) {
			numbers[i] = mix(i);
			cache.put(numbers[i], value);
		}
		cache.cleanUp();
	}

	static String run(int loop, int threads, double seconds, long most)
			throws Exception {
		CyclicBarrier barrier = new CyclicBarrier(threads + 1);
		boolean timed = seconds > 0;
		long began = Long.MAX_VALUE, ended = Long.MIN_VALUE;
		long ops = 0, gets = 0, hits = 0, cpu;

		stop = false;
		for (int i = 0; i < threads; i++) {
			Worker worker = new Worker(i, workers[i]);
			workers[i] = worker;
			worker.loop = loop;
			worker.barrier = barrier;
			worker.warms = timed;
			worker.least = 2 * numbers.length / threads;
			worker.most = timed ? Long.MAX_VALUE : most / threads;
			worker.start();
		}
		if (timed)
			Thread.sleep((long)(seconds * 200) + 1);
		stop = true;
		barrier.await();
		stop = false;
		cpu = system.getProcessCpuTime();
		barrier.await();
		if (timed) {
			Thread.sleep((long)(seconds * 1000) + 1);
			stop = true;
		}
		for (int i = 0; i < threads; i++) {
			Worker worker = workers[i];
			worker.join();
			began = Math.min(began, worker.began);
			ended = Math.max(ended, worker.ended);
			ops += worker.ops;
			gets += worker.gets;
			hits += worker.hits;
		}
		cpu = system.getProcessCpuTime() - cpu;
		return String.format("%d %.9f %.9f %.6f", ops,
			(ended - began) / 1e9, cpu / 1e9,
			gets == 0 ? 0 : (double)hits / gets);
	}

	/* The compiler has seen all loops before the first figure is taken. */
	static void warm() throws Exception {
		setup(1000, 1000, 4096);
		draw(ZIPF, 1000);
		for (int pass = 0; pass < 2; pass++)
			for (int loop = HIT; loop <= MIX; loop++)
				run(loop, 1 + pass, 0.3, 0);
	}

	static String answer(String[] word) throws Exception {
		if (word[0].equals("warm")) {
			warm();
		} else if (word[0].equals("setup")) {
			setup(Integer.parseInt(word[1]),
			      Long.parseLong(word[2]),
			      Integer.parseInt(word[3]));
		} else {
			draw(Integer.parseInt(word[2]),
			     Integer.parseInt(word[4]));
			return run(Integer.parseInt(word[1]),
				   Integer.parseInt(word[3]),
				   Double.parseDouble(word[5]),
				   Long.parseLong(word[6]));
		}
		return "ok";
	}

	public static void main(String[] args) throws Exception {
		BufferedReader in = new BufferedReader(
			new InputStreamReader(System.in));
		String line;

		for (int i = 0; i < THREADS; i++)
			workers[i] = new Worker(i, null);
		while ((line = in.readLine()) != null)
			System.out.println(answer(line.split(" ")));
	}
}
