// Whose rights count: a Consul token, kept for this tab alone.

import { ask, restart, session } from "../api.js";
import { go, html, note, Page, useState, Facts, useMay } from "../parts.js";

export default function Login() {
  const [fault, setFault] = useState("");
  const may = useMay();
  const submit = async (event) => {
    event.preventDefault();
    const before = session.token;
    session.token = event.target.elements.token.value.trim();
    try {
      await ask("GET", "/v1/ui/may");
      restart();
      note("Logged in");
      go("/ui/");
    } catch (error) {
      session.token = before;
      setFault(error.status === 403 ? "Consul does not know this token." : error.message);
    }
  };
  const leave = () => {
    session.token = "";
    restart();
    go("/ui/login");
    note("Logged out");
  };
  const can = (flag) => (flag ? "yes" : "no");
  return html`<${Page} title="Log in" lead="What you may see and do is what Consul's ACLs allow your token. It is kept in this tab until you close it, and sent to nobody but this agent.">
    <form class="panel narrow" onSubmit=${submit}>
      <label class="field"><span>Consul token (its secret id)</span><input name="token" type="password" autocomplete="off" spellcheck="false" required aria-invalid=${fault !== ""} aria-describedby="fault" /></label>
      <p id="fault" class="fault-text" role="alert">${fault}</p>
      <div class="actions">${session.token && html`<button type="button" onClick=${leave}>Log out</button>`}<button class="primary" type="submit">Log in</button></div>
    </form>
    <section class="panel narrow" aria-label="What you may do now"><header><h2>What you may do now</h2></header>
      <${Facts} facts=${[["Consul's ACLs", may.ACL ? "on" : "off"], ["Read all jobs of namespace default", can(may.ReadJob)], ["Change them", can(may.WriteJob)], ["Run commands beside tasks", can(may.Exec)], ["Read nodes", can(may.ReadNode)], ["Change nodes", can(may.WriteNode)], ["Operate the cluster", can(may.WriteOperator)]]} /></section>
  <//>`;
}
