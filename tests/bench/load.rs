//! Who asks for what, how often: the simulation's workloads, ten times faster.

use std::time::Duration;

pub(crate) const STREAM: &str = "st-0603182c-7ffb-53c3-b307-47ca14b90001";
pub(crate) const ACCOUNT: &str = "67777ce93e25326494e90001";

/// How many pages each of the 200 lists of the workload "hot" has: as in the simulation, 491 in all.
const HOT_PAGES: &str = "2321123333213444234122234314224412224211123142141344322131212441114323444142214221223344144441423341\
    4432231431223412223124432141441312131212424343341411141414312343242113343212311311113213312212442431";

/// Callers who ask for pages, some more often than others.
pub(crate) struct Load {
    /// What to ask for.
    pub(crate) paths: Vec<String>,
    /// How often each page is asked for, a second.
    rates: Vec<f64>,
    /// Their running sum.
    sums: Vec<f64>,
}

impl Load {
    /// 20 lists of a page: less than the allowance has to give.
    pub(crate) fn small() -> Self {
        Self::new(&[1; 20], 1.0, 200.0)
    }

    /// 200 lists of up to 4 pages.
    pub(crate) fn hot() -> Self {
        let pages: Vec<_> = HOT_PAGES.bytes().map(|digit| digit - b'0').collect();
        Self::new(&pages, 0.9, 1000.0)
    }

    /// 2000 lists of a page: far more than the allowance has to give.
    pub(crate) fn over_subscribed() -> Self {
        Self::new(&[1; 2000], 0.8, 500.0)
    }

    /// Of list n's pages, the p-th is asked for with the weight n^-zipf / p.
    fn new(pages: &[u8], zipf: f64, rate: f64) -> Self {
        let (mut paths, mut rates) = (Vec::new(), Vec::new());
        for (list, pages) in (1_u32..).zip(pages) {
            let weights: Vec<_> = (1..=*pages).map(|page| 1.0 / f64::from(page)).collect();
            let all: f64 = weights.iter().sum();
            for (page, weight) in weights.iter().enumerate() {
                rates.push(f64::from(list).powf(-zipf) * weight / all);
                let skip = page * 50;
                paths.push(format!(
                    "/agentassist/api/v1/public/{STREAM}/campaign/contactList/cl-n200-{list}/getAllContacts?accountId={ACCOUNT}&skip={skip}"
                ));
            }
        }
        let all: f64 = rates.iter().sum();
        rates.iter_mut().for_each(|r| *r *= rate / all);
        let mut sum = 0.0;
        let sums = rates.iter().map(|rate| {
            sum += rate;
            sum
        });
        Self {
            paths,
            sums: sums.collect(),
            rates,
        }
    }

    /// How long until the next caller asks.
    pub(crate) fn pause(&self, dice: &mut Dice) -> Duration {
        let rate = self.sums.last().copied().unwrap_or(1.0);
        Duration::from_secs_f64(-(1.0 - dice.roll()).ln() / rate)
    }

    /// What it asks for.
    pub(crate) fn pick(&self, dice: &mut Dice) -> usize {
        let at = dice.roll() * self.sums.last().copied().unwrap_or_default();
        self.sums
            .partition_point(|sum| *sum <= at)
            .min(self.paths.len() - 1)
    }

    /// The mean age, in seconds, of the best schedule for callers who never wait and are not known beforehand: each page
    /// at intervals that go with the square root of how often it is asked for, none of them below `fresh_for`.
    pub(crate) fn law(&self, fresh_for: f64, calls_a_second: f64) -> f64 {
        let interval = |mu: f64, rate: f64| fresh_for.max((2.0 * mu / rate).sqrt());
        let (mut low, mut high) = (1e-3_f64, 1e9_f64);
        for _ in 0..200 {
            let mu = (low * high).sqrt();
            let spent: f64 = self
                .rates
                .iter()
                .map(|rate| 1.0 / interval(mu, *rate))
                .sum();
            if spent > calls_a_second {
                low = mu;
            } else {
                high = mu;
            }
        }
        let ages = self
            .rates
            .iter()
            .map(|rate| rate * interval(high, *rate) / 2.0);
        ages.sum::<f64>() / self.rates.iter().sum::<f64>()
    }
}

/// Chance that is the same in every run (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// From 0 up to, and without, 1.
    pub(crate) fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Log-normal delays: half are below the median, one in a hundred is over 4.4 times as much.
    pub(crate) fn delays(&mut self, median: Duration) -> Vec<Duration> {
        let mut delay = |_| {
            let (u, v) = (1.0 - self.roll(), self.roll());
            let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
            median.mul_f64((0.64 * normal).exp())
        };
        (0..4096).map(&mut delay).collect()
    }

    /// A ranking of so many things.
    pub(crate) fn ranking(&mut self, of: usize) -> Vec<usize> {
        let mut ranking: Vec<_> = (0..of).collect();
        for left in (1..of).rev() {
            ranking.swap(left, (self.roll() * (left + 1) as f64) as usize);
        }
        ranking
    }
}
